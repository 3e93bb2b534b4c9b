SELECT version FROM public.idem_record_meta WHERE id OPERATOR(pg_catalog.=) 1
