/*
 * The floor of a fan-out: one frame, built once, written to N sockets at a fixed rate.
 *
 *   floor_server BYTES RATE
 *
 * Prints 'listening PORT' (127.0.0.1) and runs until it is told to end. Speaks just enough
 * WebSocket for load_client: a camws.v1 image message whose seq and stamp are renewed in place
 * once a frame, the image BYTES of nothing. A socket that has not taken a frame yet does not get
 * the next one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SOCKETS = 4096, WS_HEADER = 10, MESSAGE_HEADER = 8, TEXT = 192 };
enum { PREFIX = WS_HEADER + MESSAGE_HEADER + TEXT };

static const char RESPONSE[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    "Sec-WebSocket-Protocol: camws.v1\r\n\r\n";

static int sockets[MAX_SOCKETS];    /* by file descriptor: 1 once it is open */
static size_t unsent[MAX_SOCKETS];  /* by file descriptor: what is left of the frame */
static int highest;
static unsigned char *frame;
static size_t frame_size;
static int epoll_fd;

static void die(const char *what)
{
    fprintf(stderr, "floor_server: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void build_frame(size_t bytes)
{
    uint64_t length = MESSAGE_HEADER + TEXT + bytes;
    uint32_t text = TEXT;
    int i;
    frame_size = PREFIX + bytes;
    frame = calloc(1, frame_size);
    if (!frame)
        die("calloc");
    frame[0] = 0x82, frame[1] = 127;
    for (i = 0; i < 8; i++)
        frame[2 + i] = length >> (56 - 8 * i);
    frame[WS_HEADER] = 1, frame[WS_HEADER + 1] = 1;
    memcpy(frame + WS_HEADER + 4, &text, 4);
}

static void renew_header(void)
{
    static unsigned long seq;
    char text[TEXT + 1];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int n = snprintf(text, sizeof text, "{\"stream\":\"floor\",\"seq\":%lu,\"stamp\":{\"sec\":%ld,"
                     "\"nanosec\":%ld},\"content_type\":\"image/jpeg\"}", ++seq,
                     (long)now.tv_sec, now.tv_nsec);
    memset(text + n, ' ', TEXT - n);
    memcpy(frame + PREFIX - TEXT, text, TEXT);
}

static void watch(int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll_fd, operation, fd, &event) < 0)
        die("epoll_ctl");
}

static void drop(int fd)
{
    sockets[fd] = 0;
    unsent[fd] = 0;
    close(fd);
}

static void push(int fd)
{
    size_t before = unsent[fd];
    ssize_t n = send(fd, frame + frame_size - before, before, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) {
        drop(fd);
        return;
    }
    unsent[fd] -= n > 0 ? n : 0;
    if (unsent[fd] && before == frame_size)
        watch(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT);
    else if (!unsent[fd] && before != frame_size)
        watch(EPOLL_CTL_MOD, fd, EPOLLIN);
}

static void tick(int timer)
{
    uint64_t expirations;
    int fd;
    if (read(timer, &expirations, sizeof expirations) < 0)
        return;
    renew_header();
    for (fd = 0; fd <= highest; fd++)
        if (sockets[fd] && !unsent[fd]) {
            unsent[fd] = frame_size;
            push(fd);
        }
}

static void take_client(int listening)
{
    int one = 1, fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (fd >= MAX_SOCKETS) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(EPOLL_CTL_ADD, fd, EPOLLIN);
    highest = fd > highest ? fd : highest;
}

/* The request comes in one piece from load_client; later input is not looked at. */
static void on_input(int fd)
{
    char request[2048];
    ssize_t n = recv(fd, request, sizeof request, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        drop(fd);
    } else if (n > 0 && !sockets[fd]) {
        sockets[fd] = 1;
        (void)!send(fd, RESPONSE, sizeof RESPONSE - 1, MSG_NOSIGNAL);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    struct epoll_event events[256];
    struct itimerspec period = {0};
    int listening, timer, one = 1, i, n;
    if (argc != 3) {
        fprintf(stderr, "usage: floor_server BYTES RATE\n");
        return 2;
    }
    build_frame(strtoul(argv[1], NULL, 10));
    period.it_interval.tv_nsec = (long)(1e9 / atof(argv[2]));
    period.it_value = period.it_interval;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&address, size) < 0 || listen(listening, 1024) < 0)
        die("listen");
    getsockname(listening, (struct sockaddr *)&address, &size);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    epoll_fd = epoll_create1(0);
    if (timer < 0 || epoll_fd < 0 || timerfd_settime(timer, 0, &period, NULL) < 0)
        die("start");
    watch(EPOLL_CTL_ADD, listening, EPOLLIN);
    watch(EPOLL_CTL_ADD, timer, EPOLLIN);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        n = epoll_wait(epoll_fd, events, 256, -1);
        for (i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listening)
                take_client(fd);
            else if (fd == timer)
                tick(fd);
            else if (events[i].events & EPOLLOUT)
                push(fd);
            else
                on_input(fd);
        }
    }
}
