SELECT version FROM public.idem_record_meta WHERE id = 1
