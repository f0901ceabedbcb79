/* free_port.h - ports for servers of a contract test that are killed and started again on the same one. */
#ifndef TESTS_CONTRACT_FREE_PORT_H
#define TESTS_CONTRACT_FREE_PORT_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* Below the kernel's ephemeral range and Nomad's dynamic ports: no outgoing connection takes the port of a server that is down. */
#define PORT_FIRST 10000
#define PORTS 10000

static inline bool
port_is_free(int port, int type)
{
	const struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	bool is_free = bind(fd, (const struct sockaddr *)&a, sizeof(a)) == 0;

	close(fd);
	return is_free;
}

/* One on which nobody listens on 127.0.0.1, by TCP or UDP, and that was not given before; 0 where there is none. */
static inline int
free_port(void)
{
	static unsigned next;

	if (next == 0 && getrandom(&next, sizeof(next), 0) != sizeof(next))
		return 0;
	for (int i = 0; i < PORTS; i++) {
		int port = PORT_FIRST + (int)(next++ % PORTS);

		if (port_is_free(port, SOCK_STREAM) && port_is_free(port, SOCK_DGRAM))
			return port;
	}
	return 0;
}

#endif
