/*
 * A lean load client: many WebSocket sockets, one thread, one epoll.
 *
 *   load_client HOST PORT WARMUP SECONDS GROUP...
 *
 * GROUP is a list of key=value, separated by commas:
 *   name=TEXT, count=N, path=/ws/color
 *   protocol=camws|foxglove   how the stamp is read from a message (default camws)
 *   stalled=1                 never reads after the handshake
 *   rate=N                    reads at most N bytes a second
 *   ack=MS                    needs MS milliseconds to show a message, then acknowledges it
 *   rcvbuf=N                  SO_RCVBUF
 *
 * Prints 'ready' once all sockets are open, 'start' and 'end' round the seconds that count, then
 * one line of JSON. The age of a message is CLOCK_REALTIME minus its stamp at the moment it was
 * read as a whole; with ack=MS at the moment it was shown. Payloads are thrown away by the kernel
 * (MSG_TRUNC) but for their first bytes, so that the client costs little.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_GROUPS = 32, HEAD = 1024, BUFFER = 32768, PAGE_QUEUE = 4096 };
enum opcode { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum state { OPENING, OPEN, CLOSED };

struct message { uint64_t seq; double stamp; bool has_stamp; };

struct group {
    char name[64], path[256];
    int count;
    bool foxglove, stalled;
    double rate, ack;
    int rcvbuf;
};

struct client {
    int fd;
    const struct group *group;
    enum state state;
    int close_code;
    unsigned char buffer[BUFFER];
    size_t have;
    uint64_t skip;             /* bytes of the message at hand that are thrown away */
    uint64_t length;           /* of the payload of the message at hand */
    struct message at_hand;
    double tokens, refilled;   /* rate-limited */
    struct message page[PAGE_QUEUE];   /* ack: read but not yet shown */
    unsigned page_first, page_count;
    double busy_until;
    /* what is reported */
    uint64_t messages, bytes, texts, first_seq, last_seq, skipped;
    double *ages;
    size_t age_count, age_room;
};

static struct client *clients;
static int client_count, open_count, epoll_fd;
static bool counting;

static void die(const char *what)
{
    fprintf(stderr, "load_client: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* -- what is sent ----------------------------------------------------------------------------- */

/* Small and rare, so a full send buffer is not waited for. The mask is zero. */
static void send_frame(struct client *c, int opcode, const void *payload, size_t length)
{
    unsigned char frame[8 + 1024];
    size_t n = 0;
    if (length > 1024)
        return;
    frame[n++] = 0x80 | opcode;
    if (length < 126) {
        frame[n++] = 0x80 | length;
    } else {
        frame[n++] = 0x80 | 126;
        frame[n++] = length >> 8;
        frame[n++] = length & 0xff;
    }
    memset(frame + n, 0, 4);
    n += 4;
    memcpy(frame + n, payload, length);
    (void)!send(c->fd, frame, n + length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void send_text(struct client *c, const char *text)
{
    send_frame(c, TEXT, text, strlen(text));
}

static void send_request(struct client *c, const char *host, int port)
{
    char request[1024];
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                     "Sec-WebSocket-Protocol: %s\r\n\r\n",
                     c->group->path, host, port, c->group->foxglove ? "foxglove.sdk.v1"
                                                                     : "camws.v1");
    if (send(c->fd, request, n, MSG_NOSIGNAL) != n)
        die("send");
}

/* -- what arrives ----------------------------------------------------------------------------- */

static bool find_number(const unsigned char *text, size_t length, const char *key, uint64_t *value)
{
    const char *found = memmem(text, length, key, strlen(key));
    char digits[32];
    size_t left;
    if (!found)
        return false;
    found += strlen(key);
    left = length - (found - (const char *)text);
    if (left > sizeof digits - 1)
        left = sizeof digits - 1;
    memcpy(digits, found, left);
    digits[left] = 0;
    *value = strtoull(digits, NULL, 10);
    return true;
}

static struct message read_header(const struct client *c, const unsigned char *payload,
                                  size_t length)
{
    struct message message = {0};
    uint64_t sec, nanosec;
    if (c->group->foxglove) {
        /* u8 opcode = 1, u32 subscription, u64 log time in nanoseconds */
        if (length >= 13 && payload[0] == 1) {
            memcpy(&nanosec, payload + 5, 8);
            message.stamp = nanosec * 1e-9;
            message.has_stamp = true;
        }
        return message;
    }
    if (find_number(payload, length, "\"sec\":", &sec)
        && find_number(payload, length, "\"nanosec\":", &nanosec)) {
        message.stamp = sec + nanosec * 1e-9;
        message.has_stamp = true;
    }
    find_number(payload, length, "\"seq\":", &message.seq);
    return message;
}

static void note_age(struct client *c, const struct message *message)
{
    if (!counting || !message->has_stamp)
        return;
    if (c->age_count == c->age_room) {
        c->age_room = c->age_room ? 2 * c->age_room : 1024;
        c->ages = realloc(c->ages, c->age_room * sizeof *c->ages);
        if (!c->ages)
            die("realloc");
    }
    c->ages[c->age_count++] = seconds_of(CLOCK_REALTIME) - message->stamp;
}

static void on_message(struct client *c)
{
    struct message *message = &c->at_hand;
    if (counting) {
        c->messages++;
        c->bytes += c->length;
        if (message->seq) {
            if (!c->first_seq)
                c->first_seq = message->seq;
            else if (message->seq > c->last_seq)
                c->skipped += message->seq - c->last_seq - 1;
            c->last_seq = message->seq;
        }
    }
    if (c->group->ack > 0) {
        if (c->page_count < PAGE_QUEUE)
            c->page[(c->page_first + c->page_count++) % PAGE_QUEUE] = *message;
    } else {
        note_age(c, message);
    }
}

static void close_client(struct client *c, int code)
{
    if (c->state == CLOSED)
        return;
    if (c->state == OPEN)
        open_count--;
    c->state = CLOSED;
    c->close_code = code;
    close(c->fd);
}

/* A text frame is a control message, or one of a JSON stream. */
static void on_text(struct client *c, const unsigned char *payload, size_t length)
{
    uint64_t channel;
    char request[128];
    if (c->group->foxglove) {
        if (memmem(payload, length, "\"advertise\"", 11)
            && find_number(payload, length, "\"id\":", &channel)) {
            snprintf(request, sizeof request, "{\"op\":\"subscribe\",\"subscriptions\":"
                     "[{\"id\":1,\"channelId\":%llu}]}", (unsigned long long)channel);
            send_text(c, request);
        }
    } else if (memmem(payload, length < 32 ? length : 32, "\"op\"", 4)) {
        c->texts++;
    } else {
        c->at_hand = read_header(c, payload, length);
        on_message(c);
    }
}

static void on_frame(struct client *c, int opcode, const unsigned char *payload, size_t length)
{
    switch (opcode) {
    case TEXT:
        on_text(c, payload, length);
        break;
    case BINARY:
        c->at_hand = read_header(c, payload, length);
        if (c->at_hand.has_stamp)
            on_message(c);
        break;
    case PING:
        send_frame(c, PONG, payload, length);
        break;
    case CLOSE:
        close_client(c, length >= 2 ? payload[0] << 8 | payload[1] : 1005);
        break;
    }
}

/* Takes one frame from the buffer; false when more bytes are needed. */
static bool parse_frame(struct client *c)
{
    unsigned char *b = c->buffer;
    size_t start = 2, enough;
    uint64_t length, whole;
    int i, opcode;
    if (c->have < 2)
        return false;
    opcode = b[0] & 0x0f;
    length = b[1] & 0x7f;
    if (length == 126)
        start = 4;
    else if (length == 127)
        start = 10;
    if (c->have < start)
        return false;
    if (start > 2)
        for (length = 0, i = 2; i < (int)start; i++)
            length = length << 8 | b[i];
    whole = start + length;
    enough = opcode == BINARY ? HEAD : BUFFER;
    if (c->have < (whole < enough ? whole : enough))
        return false;
    c->length = length;
    if (whole > c->have) {
        c->at_hand = read_header(c, b + start, c->have - start);
        c->skip = whole - c->have;
        c->have = 0;
        return true;
    }
    on_frame(c, opcode, b + start, length);
    c->have -= whole;
    memmove(b, b + whole, c->have);
    return true;
}

/* Reads at most ``allowed`` bytes; returns how many, 0 when there are no more now. */
static size_t read_some(struct client *c, size_t allowed)
{
    ssize_t n;
    size_t room;
    if (c->skip) {
        room = c->skip < allowed ? c->skip : allowed;
        n = recv(c->fd, NULL, room, MSG_TRUNC | MSG_DONTWAIT);
        if (n > 0 && !(c->skip -= n))
            on_message(c);
    } else {
        room = (c->have < HEAD ? HEAD : BUFFER) - c->have;
        room = room < allowed ? room : allowed;
        n = recv(c->fd, c->buffer + c->have, room, MSG_DONTWAIT);
        if (n > 0) {
            c->have += n;
            while (c->state == OPEN && !c->skip && parse_frame(c))
                ;
        }
    }
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        close_client(c, 1006);
    return n > 0 ? n : 0;
}

static void read_response(struct client *c)
{
    const char *end;
    ssize_t n = recv(c->fd, c->buffer + c->have, HEAD - c->have, MSG_DONTWAIT);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            close_client(c, 1006);
        return;
    }
    c->have += n;
    end = memmem(c->buffer, c->have, "\r\n\r\n", 4);
    if (!end)
        return;
    if (!memmem(c->buffer, c->have, " 101 ", 5)) {
        fprintf(stderr, "load_client: refused: %.*s\n", (int)c->have, c->buffer);
        close_client(c, 1006);
        return;
    }
    end += 4;
    c->have -= end - (const char *)c->buffer;
    memmove(c->buffer, end, c->have);
    c->state = OPEN;
    open_count++;
    if (c->group->stalled || c->group->rate > 0) {
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
        c->refilled = seconds_of(CLOCK_MONOTONIC);
    }
    if (!c->group->stalled)
        while (c->state == OPEN && !c->skip && parse_frame(c))
            ;
}

/* -- clients that take their time --------------------------------------------------------------- */

static void read_at_rate(struct client *c, double now)
{
    double rate = c->group->rate;
    size_t n;
    c->tokens += (now - c->refilled) * rate;
    c->refilled = now;
    while (c->state == OPEN && c->tokens >= 1 && (n = read_some(c, c->tokens)))
        c->tokens -= n;
    /* A link that was idle does not go faster afterwards. */
    if (c->tokens > rate * 0.005)
        c->tokens = rate * 0.005;
}

static void show(struct client *c, double now)
{
    char ack[64];
    if (c->busy_until && now >= c->busy_until) {
        struct message *shown = &c->page[c->page_first];
        note_age(c, shown);
        snprintf(ack, sizeof ack, "{\"op\":\"ack\",\"seq\":%llu}",
                 (unsigned long long)shown->seq);
        send_text(c, ack);
        c->page_first = (c->page_first + 1) % PAGE_QUEUE;
        c->page_count--;
        c->busy_until = 0;
    }
    if (!c->busy_until && c->page_count)
        c->busy_until = now + c->group->ack;
}

static bool is_paced(const struct client *c)
{
    return !c->group->stalled && (c->group->rate > 0 || c->group->ack > 0);
}

/* -- the run ------------------------------------------------------------------------------------ */

static void run_until(double end, bool until_open)
{
    struct epoll_event events[256];
    bool paced = false;
    double now;
    int i, n;
    for (i = 0; i < client_count; i++)
        paced |= is_paced(&clients[i]);
    while ((now = seconds_of(CLOCK_MONOTONIC)) < end) {
        int wait = (int)ceil((end - now) * 1e3);
        if (until_open && open_count == client_count)
            return;
        if (paced || until_open)
            wait = 1;
        n = epoll_wait(epoll_fd, events, 256, wait);
        for (i = 0; i < n; i++) {
            struct client *c = events[i].data.ptr;
            if (c->state == OPENING)
                read_response(c);
            else if (c->state == OPEN)
                /* At most the head and the rest; what is left makes epoll return at once. */
                if (read_some(c, SIZE_MAX) && c->state == OPEN && c->skip)
                    read_some(c, SIZE_MAX);
        }
        if (!paced)
            continue;
        now = seconds_of(CLOCK_MONOTONIC);
        for (i = 0; i < client_count; i++) {
            struct client *c = &clients[i];
            if (c->state != OPEN || !is_paced(c))
                continue;
            if (c->group->rate > 0)
                read_at_rate(c, now);
            if (c->group->ack > 0)
                show(c, now);
        }
    }
}

static void connect_client(struct client *c, const struct group *group, const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die("HOST is no IPv4 address");
    c->group = group;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0)
        die("socket");
    if (group->rcvbuf)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &group->rcvbuf, sizeof group->rcvbuf);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    send_request(c, host, port);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) < 0)
        die("epoll_ctl");
}

static struct group parse_group(char *text)
{
    struct group group = {.name = "clients", .path = "/ws/color", .count = 1};
    char *rest = text, *item;
    while ((item = strsep(&rest, ","))) {
        char *value = strchr(item, '=');
        if (!value) {
            fprintf(stderr, "load_client: '%s' is no key=value\n", item);
            exit(2);
        }
        *value++ = 0;
        if (!strcmp(item, "name"))
            snprintf(group.name, sizeof group.name, "%s", value);
        else if (!strcmp(item, "path"))
            snprintf(group.path, sizeof group.path, "%s", value);
        else if (!strcmp(item, "protocol"))
            group.foxglove = !strcmp(value, "foxglove");
        else if (!strcmp(item, "count"))
            group.count = atoi(value);
        else if (!strcmp(item, "stalled"))
            group.stalled = atoi(value);
        else if (!strcmp(item, "rate"))
            group.rate = atof(value);
        else if (!strcmp(item, "ack"))
            group.ack = atof(value) * 1e-3;
        else if (!strcmp(item, "rcvbuf"))
            group.rcvbuf = atoi(value);
        else {
            fprintf(stderr, "load_client: unknown option '%s'\n", item);
            exit(2);
        }
    }
    return group;
}

/* -- the report --------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear between the two nearest values, as numpy does it. */
static double percentile(const double *sorted, size_t count, double share)
{
    double place = share * (count - 1);
    size_t low = place;
    size_t high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (place - low) * (sorted[high] - sorted[low]);
}

static void print_ages(const char *key, const double *ages, size_t count)
{
    double *sorted;
    if (!count) {
        printf("\"%s\":null", key);
        return;
    }
    sorted = malloc(count * sizeof *sorted);
    if (!sorted)
        die("malloc");
    memcpy(sorted, ages, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare);
    printf("\"%s\":{\"p50\":%.3f,\"p95\":%.3f,\"p99\":%.3f,\"max\":%.3f}", key,
           1e3 * percentile(sorted, count, 0.50), 1e3 * percentile(sorted, count, 0.95),
           1e3 * percentile(sorted, count, 0.99), 1e3 * sorted[count - 1]);
    free(sorted);
}

static void print_client(const struct client *c)
{
    size_t third = c->age_count / 3;
    printf("{\"messages\":%llu,\"bytes\":%llu,\"skipped\":%llu,\"close_code\":%d,",
           (unsigned long long)c->messages, (unsigned long long)c->bytes,
           (unsigned long long)c->skipped, c->close_code);
    print_ages("age_ms", c->ages, c->age_count);
    putchar(',');
    print_ages("first_third_age_ms", c->ages, third);
    putchar(',');
    print_ages("last_third_age_ms", c->ages + (c->age_count - third), third);
    putchar('}');
}

static void print_group(const struct group *group)
{
    uint64_t messages = 0, bytes = 0, skipped = 0, source = 0;
    size_t count = 0;
    int i, closed = 0;
    double *all;
    for (i = 0; i < client_count; i++) {
        const struct client *c = &clients[i];
        if (c->group != group)
            continue;
        messages += c->messages, bytes += c->bytes, skipped += c->skipped;
        count += c->age_count;
        closed += c->state == CLOSED;
        if (c->first_seq && c->last_seq - c->first_seq + 1 > source)
            source = c->last_seq - c->first_seq + 1;
        if (!c->first_seq && c->messages > source)
            source = c->messages;
    }
    all = malloc((count + 1) * sizeof *all);
    if (!all)
        die("malloc");
    for (count = 0, i = 0; i < client_count; i++) {
        const struct client *c = &clients[i];
        if (c->group != group || !c->age_count)
            continue;
        memcpy(all + count, c->ages, c->age_count * sizeof *all);
        count += c->age_count;
    }
    printf("\"%s\":{\"clients\":%d,\"closed\":%d,\"messages\":%llu,\"bytes\":%llu,"
           "\"skipped\":%llu,\"source_frames\":%llu,", group->name, group->count, closed,
           (unsigned long long)messages, (unsigned long long)bytes,
           (unsigned long long)skipped, (unsigned long long)source);
    print_ages("age_ms", all, count);
    free(all);
    printf(",\"sockets\":[");
    for (i = 0, count = 0; i < client_count; i++)
        if (clients[i].group == group) {
            if (count++)
                putchar(',');
            print_client(&clients[i]);
        }
    printf("]}");
}

static double own_cpu(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
        + 1e-6 * (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void say(const char *what)
{
    puts(what);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct group groups[MAX_GROUPS];
    int group_count = argc - 5, i, j, port;
    double warmup, seconds, cpu, begun;
    struct client *next;
    if (group_count < 1 || group_count > MAX_GROUPS) {
        fprintf(stderr, "usage: load_client HOST PORT WARMUP SECONDS GROUP...\n");
        return 2;
    }
    port = atoi(argv[2]), warmup = atof(argv[3]), seconds = atof(argv[4]);
    for (i = 0; i < group_count; i++) {
        groups[i] = parse_group(argv[5 + i]);
        client_count += groups[i].count;
    }
    clients = calloc(client_count, sizeof *clients);
    epoll_fd = epoll_create1(0);
    if (!clients || epoll_fd < 0)
        die("start");
    for (i = 0, next = clients; i < group_count; i++)
        for (j = 0; j < groups[i].count; j++)
            connect_client(next++, &groups[i], argv[1], port);
    run_until(seconds_of(CLOCK_MONOTONIC) + 20, true);
    if (open_count < client_count) {
        fprintf(stderr, "load_client: %d of %d sockets opened\n", open_count, client_count);
        return 1;
    }
    say("ready");
    run_until(seconds_of(CLOCK_MONOTONIC) + warmup, false);
    counting = true;
    say("start");
    cpu = own_cpu(), begun = seconds_of(CLOCK_MONOTONIC);
    run_until(begun + seconds, false);
    counting = false;
    seconds = seconds_of(CLOCK_MONOTONIC) - begun, cpu = own_cpu() - cpu;
    say("end");
    printf("{\"seconds\":%.3f,\"client_cpu_s\":%.3f,\"groups\":{", seconds, cpu);
    for (i = 0; i < group_count; i++) {
        if (i)
            putchar(',');
        print_group(&groups[i]);
    }
    say("}}");
    return 0;
}
