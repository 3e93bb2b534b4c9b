SELECT owner, fingerprint, lease_until, answer FROM idem_bench.claim WHERE key = $1
