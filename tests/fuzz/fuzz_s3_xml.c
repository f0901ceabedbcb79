/* What an S3 server may answer: walked, taken for an error, a list and a lifecycle configuration. A merged configuration must
 * read back as unchanged. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "storage/s3_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
each_element(void *arg, const char *path, const char *text, const char *raw, size_t raw_len)
{
	(void)arg;
	assert(strlen(path) < S3_XML_MAX_PATH && strlen(text) <= S3_XML_MAX_TEXT);
	assert(raw_len >= 4 && raw[0] == '<' && raw[raw_len - 1] == '>');
	return 0;
}

static int
each_key(void *arg, const char *key, const struct object_info *info)
{
	(void)arg;
	assert(store_key_valid(key) && info->size_bytes >= 0);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct lifecycle_rule rules[] = {{"drover-targets", "", 7}};
	struct buf token = buf_make(S3_XML_MAX_TEXT), out = buf_make(S3_XML_MAX_BYTES), again = buf_make(S3_XML_MAX_BYTES);
	const char *text = (const char *)data;
	struct s3_error error;
	struct err e;
	struct lifecycle_view view = {.same = false};
	bool changed = false;

	s3_xml_walk(text, size, each_element, NULL, &e);
	s3_xml_error(text, size, &error);
	s3_xml_list(text, size, each_key, NULL, &token, &e);
	if (s3_xml_lifecycle_merge(text, size, rules, 1, &out, &changed, &e) == 0 && changed)
		assert(s3_xml_lifecycle_merge(out.data, out.len, rules, 1, &again, &changed, &e) == 0 && !changed &&
		    s3_xml_lifecycle_view(out.data, out.len, rules, 1, &view, &e) == 0 && view.same);
	s3_xml_lifecycle_view(text, size, rules, 1, &view, &e);
	buf_release(&token);
	buf_release(&out);
	buf_release(&again);
	return 0;
}
