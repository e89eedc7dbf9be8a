-- reprice_account: decides for some traces what counts at the prepared amounts.
-- Parameters: trace_ids Array(String), rivals Array(String), first_day and last_day Date, as in account_traces
-- Grain:      writes one row per prepared charge that counts differently, or for another amount
-- Target:     repriced
-- Source:     queries/account_traces.sql and views/accounts.sql, over repriced in place of charges
-- Read by:    otel_cost/store/reprice.py
<account_traces of repriced>;
