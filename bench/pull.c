/*
 * pull: HTTP load from one thread, made so that the receiver is not the bottleneck.
 *
 * Keep-alive connections, one request at a time on each (no pipelining), one
 * epoll loop. The rest of a body is dropped inside the kernel (recv with
 * MSG_TRUNC), so nothing is copied. Every answer's status and length is
 * checked; what is wrong is counted, never measured as success.
 *
 *   pull [options] ADDRESS PORT PATH
 *
 *   -c N          connections (1)
 *   -n N          requests in all; 0 until the time is over (0)
 *   -t SECONDS    the time bound (10); what is in flight then is dropped
 *   -l FILE       take the paths from the lines of FILE instead of PATH, in turn
 *   -R            ... at random
 *   -r LEN:TOTAL  GET a random range of LEN bytes of a body of TOTAL bytes
 *   -b BYTES      every answer's body must have this length
 *   -P BYTES      PUT a body of BYTES that nobody sent before, to PATH with a number
 *   -F FILE       PUT this file (by sendfile) to PATH
 *   -i MICROS     pause so long from the start of a request to the start of the next
 *   -s SEED       of random choices and of the unique bodies (1)
 *
 * It prints one JSON object. Latencies (microseconds) run from the request's
 * first byte out to the answer's last byte in. Exit 0 if nothing went wrong.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_IN = 16384, HEAD_OUT = 2048, FILLER = 1 << 20, UNIQUE = 64, EVENTS = 256 };
static const uint64_t TURN = 8 << 20; /* bytes from one connection before the next */

enum state { RESTING, SENDING, HEAD, BODY };

struct connection {
    int fd;
    enum state state;
    int wants_out;
    int closes;
    double began;
    uint64_t counted; /* the current request's bytes */
    char out[HEAD_OUT];
    size_t out_length, out_sent;
    char unique[UNIQUE + 1];
    uint64_t body_length, body_sent;
    char in[HEAD_IN];
    size_t in_length;
    uint64_t left;
    int status;
};

static struct sockaddr_in server;
static const char *address, *path;
static long port;
static int loop;
static long connections = 1, wanted, pause_us;
static double bound = 10;
static uint64_t range_length, range_total, expected, put_length, seed = 1, state_of_random;
static int expects, puts_, random_paths, source = -1;
static char **paths;
static size_t paths_count, next_path;
static char *filler, *sink;

static uint64_t started, finished, bytes, wrong, reconnects;
static int last_wrong_status;
static char last_wrong[128];
static float *latencies;
static size_t latencies_room;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

/* xorshift64*: the same requests on both sides of a comparison */
static uint64_t any(void)
{
    state_of_random ^= state_of_random >> 12;
    state_of_random ^= state_of_random << 25;
    state_of_random ^= state_of_random >> 27;
    return state_of_random * UINT64_C(2685821657736338717);
}

static void note_wrong(const char *what, int status)
{
    wrong++;
    last_wrong_status = status;
    snprintf(last_wrong, sizeof last_wrong, "%s", what);
}

static void note_latency(double seconds)
{
    if (finished >= latencies_room) {
        latencies_room = latencies_room ? latencies_room * 2 : 65536;
        latencies = realloc(latencies, latencies_room * sizeof *latencies);
        if (!latencies)
            die("realloc");
    }
    latencies[finished] = (float)(seconds * 1e6);
}

static void watch(struct connection *c, int out)
{
    struct epoll_event event = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    if (c->wants_out == out)
        return;
    c->wants_out = out;
    if (epoll_ctl(loop, EPOLL_CTL_MOD, c->fd, &event))
        die("epoll_ctl");
}

static void open_connection(struct connection *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server))
        die("connect");
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
        die("fcntl");
    if (epoll_ctl(loop, EPOLL_CTL_ADD, c->fd, &event))
        die("epoll_ctl");
    c->state = RESTING;
    c->wants_out = 0;
}

static void reopen(struct connection *c)
{
    close(c->fd);
    reconnects++;
    open_connection(c);
}

static void fail(struct connection *c, const char *what)
{
    note_wrong(what, c->status);
    reopen(c);
}

static void send_more(struct connection *c)
{
    while (c->out_sent < c->out_length || c->body_sent < c->body_length) {
        ssize_t sent;
        if (source >= 0 && c->out_sent == c->out_length) {
            off_t at = (off_t)c->body_sent;
            sent = sendfile(c->fd, source, &at, c->body_length - c->body_sent);
            if (sent == 0) {
                fail(c, "the file is shorter than it was");
                return;
            }
        } else {
            struct iovec pieces[3];
            struct msghdr message = {.msg_iov = pieces};
            uint64_t at = c->body_sent, left = c->body_length - c->body_sent;
            size_t n = 0;
            if (c->out_sent < c->out_length)
                pieces[n++] = (struct iovec){c->out + c->out_sent, c->out_length - c->out_sent};
            if (source < 0 && left && at < UNIQUE) {
                size_t length = UNIQUE - at < left ? UNIQUE - at : left;
                pieces[n++] = (struct iovec){c->unique + at, length};
                at += length;
                left -= length;
            }
            if (source < 0 && left) {
                size_t from = at % FILLER;
                size_t length = FILLER - from < left ? FILLER - from : left;
                pieces[n++] = (struct iovec){filler + from, length};
            }
            message.msg_iovlen = n;
            sent = sendmsg(c->fd, &message, MSG_NOSIGNAL | (source >= 0 ? MSG_MORE : 0));
        }
        if (sent < 0) {
            if (errno == EAGAIN) {
                watch(c, 1);
                return;
            }
            fail(c, strerror(errno));
            return;
        }
        size_t head = c->out_length - c->out_sent;
        if (head > (size_t)sent)
            head = (size_t)sent;
        c->out_sent += head;
        c->body_sent += (uint64_t)sent - head;
        c->counted += (uint64_t)sent - head;
        bytes += (uint64_t)sent - head;
    }
    c->state = HEAD;
    watch(c, 0);
}

static void begin(struct connection *c)
{
    const char *target = path;
    int length;

    if (paths_count) {
        target = paths[random_paths ? any() % paths_count : next_path++ % paths_count];
    }
    c->body_length = c->body_sent = 0;
    if (puts_) {
        c->body_length = put_length;
        snprintf(c->unique, sizeof c->unique, "%020" PRIu64 "-%020" PRIu64 "-%021d", seed, started,
                 (int)getpid());
        if (source >= 0)
            length = snprintf(c->out, sizeof c->out,
                              "PUT %s HTTP/1.1\r\nHost: %s:%ld\r\nContent-Length: %" PRIu64
                              "\r\n\r\n",
                              target, address, port, put_length);
        else
            length = snprintf(c->out, sizeof c->out,
                              "PUT %s%" PRIu64 "-%" PRIu64 " HTTP/1.1\r\nHost: %s:%ld\r\n"
                              "Content-Length: %" PRIu64 "\r\n\r\n",
                              target, seed, started, address, port, put_length);
    } else if (range_length) {
        uint64_t from = any() % (range_total - range_length + 1);
        length = snprintf(c->out, sizeof c->out,
                          "GET %s HTTP/1.1\r\nHost: %s:%ld\r\nRange: bytes=%" PRIu64 "-%" PRIu64
                          "\r\n\r\n",
                          target, address, port, from, from + range_length - 1);
    } else {
        length = snprintf(c->out, sizeof c->out, "GET %s HTTP/1.1\r\nHost: %s:%ld\r\n\r\n", target,
                          address, port);
    }
    if (length < 0 || (size_t)length >= sizeof c->out) {
        fprintf(stderr, "the path is too long\n");
        exit(2);
    }
    c->out_length = (size_t)length;
    c->out_sent = c->in_length = 0;
    c->counted = c->left = 0;
    c->status = 0;
    c->closes = 0;
    c->state = SENDING;
    started++;
    c->began = now();
    send_more(c);
}

static void end(struct connection *c)
{
    note_latency(now() - c->began);
    finished++;
    c->state = RESTING;
    if (c->closes)
        reopen(c);
}

/* Returns the length of the head; 0: it is not whole; -1: it makes no sense. */
static long read_head(struct connection *c)
{
    char *stop = memmem(c->in, c->in_length, "\r\n\r\n", 4);
    int has_length = 0, good;

    if (!stop)
        return c->in_length == sizeof c->in ? -1 : 0;
    if (c->in_length < 12 || memcmp(c->in, "HTTP/1.", 7))
        return -1;
    c->status = atoi(c->in + 9);
    c->closes = c->in[7] == '0';
    for (char *line = c->in; line < stop;) {
        char *stops = memmem(line, (size_t)(stop - line) + 2, "\r\n", 2);
        if (!strncasecmp(line, "Content-Length:", 15)) {
            c->left = strtoull(line + 15, NULL, 10);
            has_length = 1;
        } else if (!strncasecmp(line, "Connection: close", 17)) {
            c->closes = 1;
        }
        line = stops + 2;
    }
    if (!has_length && c->status != 204)
        return -1;
    if (puts_)
        good = c->status == 200 || c->status == 201 || c->status == 204;
    else
        good = c->status == (range_length ? 206 : 200);
    if (good && range_length && c->left != range_length)
        good = 0;
    if (good && expects && c->left != expected)
        good = 0;
    if (!good)
        note_wrong("an unexpected status or length", c->status);
    return stop - c->in + 4;
}

static void receive(struct connection *c)
{
    uint64_t turn = 0;

    if (c->state == RESTING) {
        reopen(c); /* it was closed, or says what nobody asked for */
        return;
    }
    if (c->state == SENDING || c->state == HEAD) {
        ssize_t got = recv(c->fd, c->in + c->in_length, sizeof c->in - c->in_length, 0);
        long head;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            fail(c, got ? strerror(errno) : "closed before the answer");
            return;
        }
        c->in_length += (size_t)got;
        head = read_head(c);
        if (head < 0) {
            fail(c, "an answer that makes no sense");
            return;
        }
        if (!head)
            return;
        if (c->state == SENDING) {
            fail(c, "answered before the body was sent");
            return;
        }
        uint64_t more = c->in_length - (size_t)head;
        if (more > c->left) {
            fail(c, "more bytes than announced");
            return;
        }
        c->left -= more;
        bytes += more;
        c->state = BODY;
    }
    while (c->left) {
        uint64_t most = c->left < TURN ? c->left : TURN;
        ssize_t got = recv(c->fd, sink, most, MSG_TRUNC);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            fail(c, got ? strerror(errno) : "closed within the body");
            return;
        }
        c->left -= (uint64_t)got;
        bytes += (uint64_t)got;
        turn += (uint64_t)got;
        if (c->left && turn >= TURN)
            return;
    }
    end(c);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(double share)
{
    if (!finished)
        return 0;
    size_t at = (size_t)(share * (double)finished);
    return latencies[at < finished ? at : finished - 1];
}

static void read_paths(const char *name)
{
    FILE *file = fopen(name, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t length;

    if (!file)
        die(name);
    while ((length = getline(&line, &room, file)) > 0) {
        if (line[length - 1] == '\n')
            line[length - 1] = 0;
        paths = realloc(paths, (paths_count + 1) * sizeof *paths);
        if (!paths || !(paths[paths_count++] = strdup(line)))
            die("strdup");
    }
    free(line);
    fclose(file);
    if (!paths_count) {
        fprintf(stderr, "%s has no paths\n", name);
        exit(2);
    }
}

static void read_options(int argc, char **argv)
{
    struct stat facts;
    int option;
    char *rest;

    while ((option = getopt(argc, argv, "c:n:t:l:Rr:b:P:F:i:s:")) != -1) {
        switch (option) {
        case 'c': connections = atol(optarg); break;
        case 'n': wanted = atol(optarg); break;
        case 't': bound = atof(optarg); break;
        case 'l': read_paths(optarg); break;
        case 'R': random_paths = 1; break;
        case 'r':
            range_length = strtoull(optarg, &rest, 10);
            range_total = *rest == ':' ? strtoull(rest + 1, NULL, 10) : 0;
            if (!range_length || range_total < range_length) {
                fprintf(stderr, "-r wants LEN:TOTAL\n");
                exit(2);
            }
            break;
        case 'b': expects = 1; expected = strtoull(optarg, NULL, 10); break;
        case 'P': puts_ = 1; put_length = strtoull(optarg, NULL, 10); break;
        case 'F':
            puts_ = 1;
            source = open(optarg, O_RDONLY | O_CLOEXEC);
            if (source < 0 || fstat(source, &facts))
                die(optarg);
            put_length = (uint64_t)facts.st_size;
            break;
        case 'i': pause_us = atol(optarg); break;
        case 's': seed = strtoull(optarg, NULL, 10); break;
        default: exit(2);
        }
    }
    if (argc - optind != 3 || connections < 1) {
        fprintf(stderr, "usage: pull [options] ADDRESS PORT PATH\n");
        exit(2);
    }
    address = argv[optind];
    port = atol(argv[optind + 1]);
    path = argv[optind + 2];
    state_of_random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    server.sin_family = AF_INET;
    server.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, address, &server.sin_addr) != 1) {
        fprintf(stderr, "%s is no IPv4 address\n", address);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    struct connection *all;
    double start, stop;
    int over = 0;

    read_options(argc, argv);
    filler = malloc(FILLER);
    sink = malloc(TURN);
    all = calloc((size_t)connections, sizeof *all);
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (!filler || !sink || !all || loop < 0)
        die("start");
    for (size_t i = 0; i < FILLER; i++)
        filler[i] = (char)(any() >> 32);
    for (long i = 0; i < connections; i++)
        open_connection(&all[i]);

    start = now();
    while (!over) {
        double at = now();
        long busy = 0, timeout = 50;
        int found;

        if (at - start >= bound || wrong > (uint64_t)connections + 16)
            break;
        for (long i = 0; i < connections; i++) {
            struct connection *c = &all[i];
            if (c->state == RESTING && !(wanted && started >= (uint64_t)wanted)) {
                long rest = pause_us - (long)((at - c->began) * 1e6);
                if (rest <= 0)
                    begin(c);
                else if (rest / 1000 + 1 < timeout)
                    timeout = rest / 1000 + 1;
            }
            busy += c->state != RESTING;
        }
        if (!busy && wanted && started >= (uint64_t)wanted) {
            over = 1;
            break;
        }
        found = epoll_wait(loop, events, EVENTS, (int)timeout);
        if (found < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < found; i++) {
            struct connection *c = events[i].data.ptr;
            uint64_t before = reconnects;
            if (c->state == SENDING && events[i].events & EPOLLOUT)
                send_more(c);
            if (reconnects == before && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(c);
        }
    }
    stop = now();

    qsort(latencies, finished, sizeof *latencies, ascending);
    printf("{\"seconds\": %.6f, \"requests\": %" PRIu64 ", \"bytes\": %" PRIu64
           ", \"wrong\": %" PRIu64 ", \"wrong_status\": %d, \"wrong_why\": \"%s\""
           ", \"reconnects\": %" PRIu64 ", \"complete\": %s"
           ", \"p50\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f}\n",
           stop - start, finished, bytes, wrong, last_wrong_status, last_wrong, reconnects,
           over ? "true" : "false", quantile(.5), quantile(.99), quantile(.999), quantile(1));
    return wrong ? 1 : 0;
}
