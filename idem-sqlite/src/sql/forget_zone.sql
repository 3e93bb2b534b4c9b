DELETE FROM idem_zone WHERE zone = ?1
