UPDATE main.idem_record SET expires_at = ?2, record = ?3 WHERE id = ?1
