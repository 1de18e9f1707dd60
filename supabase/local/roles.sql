-- The image makes these roles without passwords; the compose file gives all the same one.
alter user authenticator with password 'postgres';
alter user supabase_storage_admin with password 'postgres';
