/* cluster_settings.h - the settings that tell a program where Nomad and Consul are: named as their own tools name them, the same in
 * every program.
 *
 * A program puts a struct of this file into its own and the rows into its table:
 *   struct config { …; struct nomad_settings nomad; struct consul_settings consul; };
 *   static const struct setting rows[] = { …, NOMAD_SETTINGS(struct config, nomad), CONSUL_SETTINGS(struct config, consul), };
 */
#ifndef CLUSTER_CLUSTER_SETTINGS_H
#define CLUSTER_CLUSTER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/settings.h"
#include "cluster/discover.h"
#include "cluster/nomad.h"

struct nomad_settings {
	char *addr, *region, *namespace, *token, *http_auth, *ca_cert, *ca_path, *client_cert, *client_key, *tls_server_name;
	bool skip_verify;
};

struct consul_settings {
	char *addr, *token, *token_file, *http_auth, *ca_cert, *ca_path, *client_cert, *client_key, *tls_server_name, *namespace;
	bool ssl, ssl_verify;
};

#define NOMAD_SETTINGS(program, at) \
	SETTING_ROW_TEXT("NOMAD_ADDR", program, at.addr, "Nomad's API: http(s)://host:port or unix:///path; a task's own socket where Nomad runs the program."), \
	SETTING_ROW_TEXT("NOMAD_REGION", program, at.region, "Nomad region."), \
	SETTING_ROW_TEXT("NOMAD_NAMESPACE", program, at.namespace, "Nomad namespace."), \
	SETTING_ROW_SECRET("NOMAD_TOKEN", program, at.token, "Nomad ACL token, or that of the task's workload identity."), \
	SETTING_ROW_SECRET("NOMAD_HTTP_AUTH", program, at.http_auth, "user:password for a proxy in front of Nomad."), \
	SETTING_ROW_TEXT("NOMAD_CACERT", program, at.ca_cert, "CA certificate file to trust for Nomad."), \
	SETTING_ROW_TEXT("NOMAD_CAPATH", program, at.ca_path, "Directory of CA certificates to trust for Nomad."), \
	SETTING_ROW_TEXT("NOMAD_CLIENT_CERT", program, at.client_cert, "Client certificate for Nomad."), \
	SETTING_ROW_TEXT("NOMAD_CLIENT_KEY", program, at.client_key, "Key of the client certificate for Nomad."), \
	SETTING_ROW_TEXT("NOMAD_TLS_SERVER_NAME", program, at.tls_server_name, "Name that Nomad's certificate must have."), \
	SETTING_ROW_BOOL("NOMAD_SKIP_VERIFY", program, at.skip_verify, "false", "Trust any TLS certificate of Nomad.")

#define CONSUL_SETTINGS(program, at) \
	SETTING_ROW_TEXT("CONSUL_HTTP_ADDR", program, at.addr, "Consul's API: host:port, http(s)://host:port or unix:///path."), \
	SETTING_ROW_SECRET("CONSUL_HTTP_TOKEN", program, at.token, "Consul ACL token."), \
	SETTING_ROW_TEXT("CONSUL_HTTP_TOKEN_FILE", program, at.token_file, "File that holds the Consul ACL token."), \
	SETTING_ROW_SECRET("CONSUL_HTTP_AUTH", program, at.http_auth, "user:password for a proxy in front of Consul."), \
	SETTING_ROW_BOOL("CONSUL_HTTP_SSL", program, at.ssl, "false", "Use https where CONSUL_HTTP_ADDR has no scheme."), \
	SETTING_ROW_BOOL("CONSUL_HTTP_SSL_VERIFY", program, at.ssl_verify, "true", "Check Consul's TLS certificate."), \
	SETTING_ROW_TEXT("CONSUL_CACERT", program, at.ca_cert, "CA certificate file to trust for Consul."), \
	SETTING_ROW_TEXT("CONSUL_CAPATH", program, at.ca_path, "Directory of CA certificates to trust for Consul."), \
	SETTING_ROW_TEXT("CONSUL_CLIENT_CERT", program, at.client_cert, "Client certificate for Consul."), \
	SETTING_ROW_TEXT("CONSUL_CLIENT_KEY", program, at.client_key, "Key of the client certificate for Consul."), \
	SETTING_ROW_TEXT("CONSUL_TLS_SERVER_NAME", program, at.tls_server_name, "Name that Consul's certificate must have."), \
	SETTING_ROW_TEXT("CONSUL_NAMESPACE", program, at.namespace, "Consul namespace (Enterprise).")

/* What the clients take, by reference into *s. */
struct nomad_config nomad_settings_config(const struct nomad_settings *s);
struct consul_config consul_settings_config(const struct consul_settings *s);

/* Takes the token from CONSUL_HTTP_TOKEN_FILE where there is one and no token was given: its first line. Returns 0, or
 * ERR_* of the file with the setting's name. */
int consul_settings_read_token(struct consul_settings *s, struct err *e);

#endif
