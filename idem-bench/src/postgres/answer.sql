UPDATE idem_bench.claim SET answer = $3 WHERE key = $1 AND owner = $2 RETURNING 1
