-- Says what became of a transaction: committed, aborted or in progress; null if it is too old.
SELECT pg_catalog.txid_status($1)
