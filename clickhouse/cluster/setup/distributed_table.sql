-- distributed_table: a table of all shards, by the name it has on each. The runner puts in the marks.
-- Grain:     as the table
-- Engine:    Distributed, by the hash of the trace id, or of the repricing, where the table has one, so that
--             a trace is on one shard
-- Source:    the tables <local>.<table>
-- Read by:   whoever reads <table>
CREATE TABLE IF NOT EXISTS <table>
AS <local>.<table>
ENGINE = Distributed(<cluster_name>, <local_name>, <table_name><sharding_key>);
