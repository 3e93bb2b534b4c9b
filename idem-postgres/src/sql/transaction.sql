-- The transaction that this session is in, if it has written or locked something.
SELECT pg_catalog.txid_current_if_assigned(), pg_catalog.current_setting('transaction_isolation')
