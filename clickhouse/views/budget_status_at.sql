-- budget_status_at: what is used of each budget at a moment, and where that leads.
-- Parameters: at DateTime('UTC')
-- Grain:      one row per user, team or organization that a budget holds for, and has spent in the window or is named by it
-- Source:     user_spend_daily, budgets, time_zones
-- Read by:    views/budget_status.sql, queries/budget_status.sql
-- The window is the day or the month of the organization's clock, up to the end of the day asked about. burn_rate_usd_per_day
-- is what was spent in it by the time that has passed of it, projected_usd what that comes to by its end, and exhausted_at when
-- it reaches the limit: NULL when not within the window, its begin never, and the moment asked about when it has already.
-- spent_usd leaves unpriced_calls out. What calls in flight hold is known to the ledgers alone.
-- A name is one budget in whichever organizations it spends, each of which counts by its own clock. The window is told on the
-- clock on which most was spent, of two with the same the one that is further ahead, and where nothing was spent on that of *.
CREATE OR REPLACE VIEW budget_status_at
AS
WITH
    (
        SELECT groupArray((level, pattern, regexp, limit_usd, budget_window, is_hard))
        FROM
        (
            SELECT
                level,
                pattern,
                regexp,
                limit_usd,
                budget_window,
                is_hard
            FROM budgets
            ORDER BY
                level,
                position
        )
    ) AS entries,
    (
        SELECT mapFromArrays(groupArray(organization), groupArray(offset_s))
        FROM time_zones
        WHERE {at:DateTime('UTC')} BETWEEN valid_from AND valid_until
    ) AS offsets,
    spending AS
    (
        SELECT
            team,
            organization,
            if(mapContains(offsets, organization), offsets[organization], offsets['*']) AS offset_s,
            toDate({at:DateTime('UTC')} + offset_s) AS today,
            sum(spend.cost_usd) AS cost_usd,
            sumIf(calls, price_status = 'unpriced') AS unpriced
        FROM user_spend_daily AS spend
        WHERE utc_day BETWEEN toDate({at:DateTime('UTC')}) - 32 AND toDate({at:DateTime('UTC')})
            AND day BETWEEN toStartOfMonth(today) AND today
        GROUP BY
            team,
            organization,
            offset_s,
            today
    ),
    spending_today AS
    (
        SELECT
            user_id,
            if(mapContains(offsets, organization), offsets[organization], offsets['*']) AS offset_s,
            toDate({at:DateTime('UTC')} + offset_s) AS today,
            sum(spend.cost_usd) AS cost_usd,
            sumIf(calls, price_status = 'unpriced') AS unpriced
        FROM user_spend_daily AS spend
        WHERE utc_day BETWEEN toDate({at:DateTime('UTC')}) - 2 AND toDate({at:DateTime('UTC')}) AND day = today
        GROUP BY
            user_id,
            offset_s,
            today
    ),
    scoped AS
    (
        SELECT
            scope.1 AS level,
            scope.2 AS name,
            offset_s,
            cost_usd,
            unpriced
        FROM spending
        ARRAY JOIN [('team', team), ('organization', organization)] AS scope
        UNION ALL
        SELECT
            'user' AS level,
            user_id AS name,
            offset_s,
            cost_usd,
            unpriced
        FROM spending_today
        UNION ALL
        SELECT
            level,
            pattern AS name,
            if(level = 'organization' AND mapContains(offsets, pattern), offsets[pattern], NULL) AS offset_s,
            toDecimal128(0, 12) AS cost_usd,
            0 AS unpriced
        FROM budgets
        WHERE NOT match(pattern, '[*?\\[]')
    ),
    summed AS
    (
        SELECT
            level,
            name,
            argMaxIf(offset_s, (ifNull(scoped.cost_usd, 0), offset_s), isNotNull(offset_s)) AS own_offset_s,
            {at:DateTime('UTC')} + ifNull(own_offset_s, offsets['*']) AS local_at,
            ifNull(sum(cost_usd), 0) AS spent_usd,
            sum(unpriced) AS unpriced_calls,
            arrayFirst(entry -> entry.1 = level AND entry.2 = name AND name != '', entries) AS own_entry,
            arrayFirst(entry -> entry.1 = level AND if(name = '', entry.2 = '*', match(name, entry.3)), entries) AS first_entry,
            if(own_entry.1 != '', own_entry, first_entry) AS entry,
            if(entry.5 = 'day', toStartOfDay(local_at), toDateTime(toStartOfMonth(local_at), 'UTC')) AS local_begin,
            if(entry.5 = 'day', local_begin + INTERVAL 1 DAY, local_begin + INTERVAL 1 MONTH) AS local_end
        FROM scoped
        GROUP BY
            level,
            name
    ),
    timed AS
    (
        SELECT
            level,
            name,
            entry.2 AS pattern,
            entry.5 AS budget_window,
            entry.6 AS is_hard,
            assumeNotNull(entry.4) AS limit_usd,
            spent_usd,
            unpriced_calls,
            toDate(local_begin) AS window_begins_on,
            greatest(1, dateDiff('second', local_begin, local_at)) AS passed_s,
            dateDiff('second', local_begin, local_end) AS window_s,
            CAST(toDecimal256(spent_usd, 12) * 86400 / passed_s, 'Decimal(38, 12)') AS burn_rate_usd_per_day,
            CAST(toDecimal256(spent_usd, 12) * window_s / passed_s, 'Decimal(38, 12)') AS projected_usd,
            toFloat64(limit_usd - spent_usd) / toFloat64(burn_rate_usd_per_day) * 86400 AS left_s
        FROM summed
        WHERE isNotNull(entry.4)
    )
SELECT
    level,
    name,
    pattern,
    budget_window,
    is_hard,
    window_begins_on,
    limit_usd,
    spent_usd,
    limit_usd - spent_usd AS remaining_usd,
    if(limit_usd = 0, NULL, toFloat64(spent_usd) / toFloat64(limit_usd)) AS utilisation_ratio,
    passed_s / window_s AS elapsed_ratio,
    burn_rate_usd_per_day,
    projected_usd,
    multiIf(
        spent_usd >= limit_usd, {at:DateTime('UTC')},
        spent_usd = 0 OR left_s >= window_s - passed_s, NULL,
        {at:DateTime('UTC')} + toIntervalSecond(toUInt32(left_s))) AS exhausted_at,
    unpriced_calls
FROM timed;
