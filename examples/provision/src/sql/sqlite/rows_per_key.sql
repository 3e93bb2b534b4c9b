SELECT key, count(*) FROM ledger WHERE key IS NOT NULL GROUP BY key;
