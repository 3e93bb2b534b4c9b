UPDATE main.idem_meta SET removed_fence = max(removed_fence, ?1) WHERE id = 1
