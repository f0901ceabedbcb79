/* extract_settings.h - the limits of extraction as settings: struct extract_limits inside a program's own settings, and the rows
 * for its table. The defaults are those of extract_limits_default; the floors are the cache's to set.
 */
#ifndef STORAGE_EXTRACT_SETTINGS_H
#define STORAGE_EXTRACT_SETTINGS_H

#include <stddef.h>

#include "base/settings.h"
#include "storage/extract.h"

#define EXTRACT_SETTING(env, type, program, at, def, min, max, text) \
	{env, NULL, SETTING_##type, offsetof(program, at), def, min, max, NULL, false, text}

#define EXTRACT_SETTINGS(program, at) \
	EXTRACT_SETTING("EXTRACT_MAX_ARCHIVE", SIZE, program, at.max_archive_bytes, "16GiB", 1024, INT64_C(1) << 50, \
	    "Largest archive that is unpacked, as it was uploaded."), \
	EXTRACT_SETTING("EXTRACT_MAX_SIZE", SIZE, program, at.max_bytes, "16GiB", 1024, INT64_C(1) << 50, \
	    "Size of all files of an archive together, holes included."), \
	EXTRACT_SETTING("EXTRACT_MAX_DISK", SIZE, program, at.max_disk_bytes, "16GiB", 4096, INT64_C(1) << 50, \
	    "Space that its tree takes on the disk: blocks of 4 KiB, and one for each entry."), \
	EXTRACT_SETTING("EXTRACT_MAX_FILE", SIZE, program, at.max_file_bytes, "8GiB", 1024, INT64_C(1) << 50, "Size of one file of it."), \
	EXTRACT_SETTING("EXTRACT_MAX_ENTRIES", INT, program, at.max_entries, "500000", 1, 100000000, \
	    "Files, directories and links of it."), \
	EXTRACT_SETTING("EXTRACT_MAX_RATIO", INT, program, at.max_ratio, "200", 1, 1000000, \
	    "How many times the archive's size the files may have, above 64 MiB."), \
	EXTRACT_SETTING("EXTRACT_MAX_DEPTH", INT, program, at.max_depth, "64", 1, 256, "Directories below each other."), \
	EXTRACT_SETTING("EXTRACT_MAX_NAME", INT, program, at.max_name_bytes, "4096", 16, 4096, "Bytes of a path in an archive."), \
	EXTRACT_SETTING("EXTRACT_MEMORY", SIZE, program, at.max_memory_bytes, "512MiB", INT64_C(256) << 20, INT64_C(1) << 40, \
	    "Address space of the helper that unpacks."), \
	EXTRACT_SETTING("EXTRACT_CPU_TIME", DURATION, program, at.max_cpu_ms, "20m", 1000, 7 * 24 * 3600000LL, \
	    "Processor time of it, in whole seconds."), \
	EXTRACT_SETTING("EXTRACT_TIMEOUT", DURATION, program, at.timeout_ms, "30m", 1000, 7 * 24 * 3600000LL, \
	    "How long an archive may take to unpack.")

#endif
