#include "cluster/cluster_settings.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"

#define TOKEN_FILE_MAX 4096

struct nomad_config
nomad_settings_config(const struct nomad_settings *s)
{
	return (struct nomad_config){
		.addr = s->addr, .region = s->region, .namespace = s->namespace, .token = s->token, .http_auth = s->http_auth,
		.ca_cert = s->ca_cert, .ca_path = s->ca_path, .client_cert = s->client_cert, .client_key = s->client_key,
		.tls_server_name = s->tls_server_name, .skip_verify = s->skip_verify,
	};
}

struct consul_config
consul_settings_config(const struct consul_settings *s)
{
	return (struct consul_config){
		.addr = s->addr, .token = s->token, .http_auth = s->http_auth, .ca_cert = s->ca_cert, .ca_path = s->ca_path,
		.client_cert = s->client_cert, .client_key = s->client_key, .tls_server_name = s->tls_server_name,
		.namespace = s->namespace, .ssl = s->ssl, .skip_verify = !s->ssl_verify,
	};
}

int
consul_settings_read_token(struct consul_settings *s, struct err *e)
{
	struct buf b = buf_make(TOKEN_FILE_MAX);
	int rc;

	if (s->token[0] != '\0' || s->token_file[0] == '\0')
		return 0;
	rc = file_read(AT_FDCWD, s->token_file, &b, e);
	if (rc == 0) {
		free(s->token);
		s->token = xstrndup(buf_str(&b), strcspn(buf_str(&b), " \r\n"));
	}
	buf_release(&b);
	return rc == 0 ? 0 : err_prefix(e, rc, "CONSUL_HTTP_TOKEN_FILE");
}
