SELECT removed_fence FROM idem_meta WHERE id = 1
