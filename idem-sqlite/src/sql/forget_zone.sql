DELETE FROM main.idem_zone WHERE zone = ?1
