-- reprice_days: on which days are there charges that may be priced again, or that a repricing has prepared?
-- Parameters: since and until DateTime64(9)
-- Result:     day, charges (rows of the table, so versions that are not merged yet count, too)
-- Read by:    otel_cost/store/reprice.py
SELECT
    day,
    max(charges) AS charges
FROM
(
    SELECT
        toDate(started_at) AS day,
        count() AS charges
    FROM charges
    WHERE started_at >= {since:DateTime64(9, 'UTC')} AND started_at < {until:DateTime64(9, 'UTC')}
    GROUP BY day
    UNION ALL
    SELECT
        toDate(started_at) AS day,
        count() AS charges
    FROM repriced
    GROUP BY day
)
GROUP BY day
ORDER BY day;
