SELECT body FROM cache WHERE key = ?1
