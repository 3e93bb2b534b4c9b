-- What became of a transaction: committed, aborted, in progress; null if that was too long ago.
SELECT pg_catalog.txid_status($1)
