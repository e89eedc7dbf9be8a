-- rollup_states: notes that the days of this pass are done, up to the parts they had when it began.
-- Grain:     writes one row per UTC day of which every total was made in this pass
-- Target:    rollup_states
-- Source:    rolling_days, spend_hours, spend_days, user_spend_days, tool_spend_days, execution_days, baselines
-- Read by:   Store.roll, and a refreshable view on servers
-- Every charge is in an execution. A day of which nothing counts has no spending, and needs none. One without a tool call
-- that counts has no tools.
INSERT INTO rollup_states
(
    utc_day,
    parts,
    first_part,
    version
)
WITH
    idle AS
    (
        SELECT utc_day
        FROM execution_days FINAL
        WHERE utc_day IN (SELECT utc_day FROM rolling_days)
        GROUP BY utc_day
        HAVING sum(model_calls + tool_calls) = 0
    ),
    toolless AS
    (
        SELECT utc_day
        FROM execution_days FINAL
        WHERE utc_day IN (SELECT utc_day FROM rolling_days)
        GROUP BY utc_day
        HAVING sum(tool_calls) = 0
    )
SELECT
    utc_day,
    parts,
    first_part,
    version
FROM rolling_days
WHERE (utc_day, version) IN (
        SELECT
            utc_day,
            max(version)
        FROM execution_days
        WHERE utc_day IN (SELECT utc_day FROM rolling_days)
        GROUP BY utc_day)
    AND (utc_day, version) IN (
        SELECT
            utc_day,
            max(version)
        FROM baselines
        WHERE utc_day IN (SELECT utc_day FROM rolling_days)
        GROUP BY utc_day)
    AND (
        (utc_day, version) IN (
            SELECT
                utc_day,
                max(version)
            FROM spend_hours
            WHERE utc_day IN (SELECT utc_day FROM rolling_days)
            GROUP BY utc_day)
        OR (
            utc_day NOT IN (
                SELECT utc_day
                FROM spend_hours FINAL
                WHERE utc_day IN (SELECT utc_day FROM rolling_days))
            AND utc_day IN (SELECT utc_day FROM idle)))
    AND (
        (utc_day, version) IN (
            SELECT
                utc_day,
                max(version)
            FROM spend_days
            WHERE utc_day IN (SELECT utc_day FROM rolling_days)
            GROUP BY utc_day)
        OR (
            utc_day NOT IN (
                SELECT utc_day
                FROM spend_days FINAL
                WHERE utc_day IN (SELECT utc_day FROM rolling_days))
            AND utc_day IN (SELECT utc_day FROM idle)))
    AND (
        (utc_day, version) IN (
            SELECT
                utc_day,
                max(version)
            FROM user_spend_days
            WHERE utc_day IN (SELECT utc_day FROM rolling_days)
            GROUP BY utc_day)
        OR (
            utc_day NOT IN (
                SELECT utc_day
                FROM user_spend_days FINAL
                WHERE utc_day IN (SELECT utc_day FROM rolling_days))
            AND utc_day IN (SELECT utc_day FROM idle)))
    AND (
        (utc_day, version) IN (
            SELECT
                utc_day,
                max(version)
            FROM tool_spend_days
            WHERE utc_day IN (SELECT utc_day FROM rolling_days)
            GROUP BY utc_day)
        OR (
            utc_day NOT IN (
                SELECT utc_day
                FROM tool_spend_days FINAL
                WHERE utc_day IN (SELECT utc_day FROM rolling_days))
            AND utc_day IN (SELECT utc_day FROM toolless)));
