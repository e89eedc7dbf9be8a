-- per_node_table: a table that is the same on every node, and is read from the node that is asked. The runner puts in the marks.
-- Grain:     as the table
-- Source:    the table <local>.<table>
-- Read by:   whoever reads <table>
CREATE OR REPLACE VIEW <table>
AS
SELECT *
FROM <local>.<table>;
