/* The limit line of the benchmarks: what receiving and sending costs when nothing is done in between.
 *
 *   bare echo ADDRESS PORT          sends each datagram back as often as its first byte says ('0' to '9')
 *   bare relay ADDRESS PORT CALLS [NAP_US]
 *                                   two sockets per call from PORT on; what comes to one leaves by the other, to whoever
 *                                   sent there last; with NAP_US it sleeps so long after each look at its sockets
 *
 * Runs until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER = 4 << 20, PACKET = 65536, EVENTS = 256 };

static int open_socket(const char *address, int port, int flags)
{
    struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(port)};
    int size = BUFFER;
    int fd = socket(AF_INET, SOCK_DGRAM | flags, 0);

    if (inet_pton(AF_INET, address, &local.sin_addr) != 1 || fd < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) ||
        bind(fd, (struct sockaddr *)&local, sizeof local)) {
        perror("bare: cannot open a socket");
        exit(1);
    }
    return fd;
}

static void echo(const char *address, int port)
{
    static char packet[PACKET];
    int fd = open_socket(address, port, 0);

    for (;;) {
        struct sockaddr_in peer;
        socklen_t peer_length = sizeof peer;
        ssize_t length = recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&peer, &peer_length);

        if (length <= 0)
            continue;
        for (int copies = packet[0] - '0'; copies > 0; copies--)
            sendto(fd, packet, length, 0, (struct sockaddr *)&peer, peer_length);
    }
}

struct port {
    int fd;
    struct sockaddr_in peer;
};

static void relay(const char *address, int first, int calls, int nap)
{
    static char packet[PACKET];
    struct epoll_event events[EVENTS];
    struct port *ports = calloc(2 * calls, sizeof *ports);
    int epoll = epoll_create1(0);

    if (!ports || epoll < 0)
        exit(1);
    for (int i = 0; i < 2 * calls; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        ports[i].fd = open_socket(address, first + i, SOCK_NONBLOCK);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, ports[i].fd, &event))
            exit(1);
    }
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < ready; i++) {
            int from = events[i].data.u32;
            struct port *to = &ports[from ^ 1];
            socklen_t peer_length = sizeof to->peer;
            ssize_t length = recvfrom(ports[from].fd, packet, sizeof packet, 0,
                                      (struct sockaddr *)&ports[from].peer, &peer_length);

            if (length > 0 && to->peer.sin_port)
                sendto(to->fd, packet, length, 0, (struct sockaddr *)&to->peer, sizeof to->peer);
        }
        if (nap > 0)
            usleep(nap);
    }
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "echo"))
        echo(argv[2], atoi(argv[3]));
    if (argc >= 5 && !strcmp(argv[1], "relay"))
        relay(argv[2], atoi(argv[3]), atoi(argv[4]), argc > 5 ? atoi(argv[5]) : 0);
    fprintf(stderr, "usage: bare echo ADDRESS PORT | bare relay ADDRESS PORT CALLS [NAP_US]\n");
    return 2;
}
