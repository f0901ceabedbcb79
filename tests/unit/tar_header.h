/* tar_header.h - the header of one entry of a tar, byte by byte: tests write what no archiver would. */
#ifndef TESTS_UNIT_TAR_HEADER_H
#define TESTS_UNIT_TAR_HEADER_H

#include <stdio.h>
#include <string.h>

#define TAR_BLOCK 512

/* h: zeros. type: '0' file, '1' hard link, '2' link, '5' directory. */
static inline void
tar_header(char h[TAR_BLOCK], const char *name, char type, const char *link, unsigned mode, unsigned size)
{
	unsigned sum = 0;

	snprintf(h, 100, "%s", name);
	snprintf(h + 100, 8, "%07o", mode & 07777777);
	snprintf(h + 124, 12, "%011o", size);
	snprintf(h + 136, 12, "%011o", 1000000000u);
	memset(h + 148, ' ', 8);
	h[156] = type;
	snprintf(h + 157, 100, "%s", link);
	memcpy(h + 257, "ustar\00000", 8);
	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
}

#endif
