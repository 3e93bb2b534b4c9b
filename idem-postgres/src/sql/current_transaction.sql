-- The number of this session's transaction, if it has written or locked something, and its isolation level.
SELECT pg_catalog.txid_current_if_assigned(), pg_catalog.current_setting('transaction_isolation')
