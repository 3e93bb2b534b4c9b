DELETE FROM main.idem_record WHERE id = ?1 AND expires_at <= ?2
