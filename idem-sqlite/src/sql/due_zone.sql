SELECT zone FROM main.idem_zone WHERE expires_at <= ?1 ORDER BY expires_at LIMIT 1
