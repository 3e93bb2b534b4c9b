SELECT removed_fence FROM main.idem_meta WHERE id = 1
