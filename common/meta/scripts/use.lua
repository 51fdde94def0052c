-- How much a bucket holds.
-- Answers how many versions, delete markers left out, and their bytes.
keep_use()
return { int(use_files), int(use_bytes) }
