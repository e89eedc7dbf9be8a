-- budget_status_at: what is used of each budget at a moment, and where that leads.
-- Parameters: at DateTime('UTC'), is_day Bool (at is any time of a date, which is asked about as a whole on each clock)
-- Grain:      one row per user, team or organization that a budget holds for, and has spent in the window or is named by it
-- Source:     spend_hourly for the day, user_spend_daily for those of its month before, budgets, time_zones
-- Read by:    views/budget_status.sql, queries/budget_status.sql
-- The window is the day or the month of the organization's clock. What was spent in it is counted by whole hours: those that
-- had begun by the moment asked about, up to now. So for a moment that has passed, its hour is counted to its end, as the time
-- that has passed of the window is, and a date is asked about as of its end, or as of now while it lasts.
-- A day or month begins and ends when its clock first shows so: a day on which clocks change has 23 or 25 hours.
-- burn_rate_usd_per_day is what was spent by the time that has passed, projected_usd what that comes to by the end of the
-- window, and exhausted_at when it reaches the limit: NULL when not within the window, its begin never, and the moment asked
-- about when it has already. spent_usd leaves unpriced_calls out. What calls in flight hold is known to the ledgers alone.
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
        SELECT CAST(
            mapFromArrays(
                groupArray(organization),
                groupArray((
                    offset_s,
                    today,
                    asked_at,
                    least(hour_ends_at, greatest(asked_at, toDateTime(now(), 'UTC'))),
                    moments[1],
                    moments[2],
                    moments[3],
                    moments[4]))),
            'Map(String, Tuple(
                offset_s Int32,
                today Date,
                asked_at DateTime(\'UTC\'),
                counted_until DateTime(\'UTC\'),
                day_begins_at DateTime(\'UTC\'),
                day_ends_at DateTime(\'UTC\'),
                month_begins_at DateTime(\'UTC\'),
                month_ends_at DateTime(\'UTC\')))')
        FROM
        (
            SELECT
                organization,
                offset_s,
                today,
                moments,
                if(
                    {is_day:Bool},
                    greatest(moments[1], least(moments[2] - 1, toDateTime(now(), 'UTC'))),
                    {at:DateTime('UTC')}) AS asked_at,
                toStartOfHour(asked_at + offset_s + 3599) - offset_s AS hour_ends_at
            FROM
            (
                SELECT
                    organization,
                    anyIf(period.offset_s, {at:DateTime('UTC')} BETWEEN valid_from AND valid_until) AS offset_s,
                    toDate({at:DateTime('UTC')} + if({is_day:Bool}, 0, offset_s)) AS today,
                    toDateTime(today, 'UTC') AS day_begin,
                    toDateTime(toStartOfMonth(today), 'UTC') AS month_begin,
                    groupArray((valid_from, valid_until, period.offset_s)) AS periods,
                    arrayMap(
                        shown -> arrayMin(arrayMap(
                            each -> greatest(shown - each.3, each.1),
                            arrayFilter(each -> greatest(shown - each.3, each.1) <= each.2, periods))),
                        [day_begin, day_begin + INTERVAL 1 DAY, month_begin, month_begin + INTERVAL 1 MONTH]) AS moments
                FROM
                (
                    SELECT
                        organization,
                        valid_from,
                        valid_until,
                        offset_s
                    FROM time_zones
                    UNION ALL
                    SELECT
                        '*' AS organization,
                        toDateTime(0, 'UTC') AS valid_from,
                        toDateTime('2106-02-07 00:00:00', 'UTC') AS valid_until,
                        0 AS offset_s
                    WHERE NOT EXISTS(
                        SELECT 1
                        FROM time_zones
                        WHERE organization = '*' AND {at:DateTime('UTC')} BETWEEN valid_from AND valid_until)
                ) AS period
                GROUP BY organization
                HAVING countIf({at:DateTime('UTC')} BETWEEN valid_from AND valid_until) > 0
            )
        )
    ) AS clocks,
    spending_before AS
    (
        SELECT
            team,
            if(mapContains(clocks, organization), organization, '*') AS clock,
            organization,
            clocks[clock].today AS today,
            sum(spend.cost_usd) AS cost_usd,
            sumIf(calls, price_status = 'unpriced') AS unpriced
        FROM user_spend_daily AS spend
        WHERE utc_day BETWEEN toDate32({at:DateTime('UTC')}) - 33 AND toDate32({at:DateTime('UTC')}) + 1
            AND day >= toStartOfMonth(today)
            AND day < today
        GROUP BY
            team,
            organization,
            today
    ),
    spending_today AS
    (
        SELECT
            user_id,
            team,
            if(mapContains(clocks, organization), organization, '*') AS clock,
            organization,
            clocks[clock].today AS today,
            clocks[clock].asked_at AS asked_at,
            sum(spend.cost_usd) AS cost_usd,
            sumIf(calls, price_status = 'unpriced') AS unpriced
        FROM spend_hourly AS spend
        WHERE utc_day BETWEEN toDate32({at:DateTime('UTC')}) - 2 AND toDate32({at:DateTime('UTC')}) + 1
            AND day = today
            AND hour < asked_at
        GROUP BY
            user_id,
            team,
            organization,
            today,
            asked_at
    ),
    scoped AS
    (
        SELECT
            scope.1 AS level,
            scope.2 AS name,
            clock,
            cost_usd,
            unpriced
        FROM spending_before
        ARRAY JOIN [('team', team), ('organization', organization)] AS scope
        UNION ALL
        SELECT
            scope.1 AS level,
            scope.2 AS name,
            clock,
            cost_usd,
            unpriced
        FROM spending_today
        ARRAY JOIN [('user', user_id), ('team', team), ('organization', organization)] AS scope
        UNION ALL
        SELECT
            level,
            pattern AS name,
            if(level = 'organization' AND mapContains(clocks, pattern), pattern, NULL) AS clock,
            toDecimal128(0, 12) AS cost_usd,
            0 AS unpriced
        FROM budgets
        WHERE NOT match(pattern, '[*?\\[]')
    ),
    by_clock AS
    (
        SELECT
            level,
            name,
            clock,
            ifNull(sum(scoped.cost_usd), 0) AS cost_usd,
            sum(scoped.unpriced) AS unpriced
        FROM scoped
        GROUP BY
            level,
            name,
            clock
    ),
    summed AS
    (
        SELECT
            level,
            name,
            argMaxIf(clock, (by_clock.cost_usd, clocks[ifNull(clock, '*')].offset_s, clock), isNotNull(clock)) AS own_clock,
            clocks[ifNull(own_clock, '*')] AS times,
            sum(by_clock.cost_usd) AS spent_usd,
            sum(unpriced) AS unpriced_calls,
            arrayFirst(entry -> entry.1 = level AND entry.2 = name AND name != '', entries) AS own_entry,
            arrayFirst(entry -> entry.1 = level AND if(name = '', entry.2 = '*', match(name, entry.3)), entries) AS first_entry,
            if(own_entry.1 != '', own_entry, first_entry) AS entry
        FROM by_clock
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
            times.asked_at AS asked_at,
            times.counted_until AS counted_until,
            if(entry.5 = 'day', times.today, toStartOfMonth(times.today)) AS window_begins_on,
            if(entry.5 = 'day', times.day_begins_at, times.month_begins_at) AS begins_at,
            if(entry.5 = 'day', times.day_ends_at, times.month_ends_at) AS ends_at,
            greatest(1, dateDiff('second', begins_at, counted_until)) AS passed_s,
            dateDiff('second', begins_at, ends_at) AS window_s,
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
        spent_usd >= limit_usd, asked_at,
        spent_usd = 0 OR left_s >= window_s - passed_s, NULL,
        counted_until + toIntervalSecond(toUInt32(left_s))) AS exhausted_at,
    unpriced_calls
FROM timed;
