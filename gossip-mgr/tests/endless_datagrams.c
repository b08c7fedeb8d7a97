/* Preloaded by a test: a datagram socket that never runs dry. Where nothing waits, recvfrom() gives garbage, which is a flood
 * faster than any sender's. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t recvfrom(int socket, void *buffer, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
	const struct sockaddr_in nobody = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	ssize_t got = syscall(SYS_recvfrom, socket, buffer, size, flags, from, length);

	if (got >= 0 || errno != EAGAIN || !from || *length < sizeof(nobody))
		return got;
	if (size > 1000)
		size = 1000;
	memset(buffer, 1, size);
	memcpy(from, &nobody, sizeof(nobody));
	*length = sizeof(nobody);
	return (ssize_t)size;
}
