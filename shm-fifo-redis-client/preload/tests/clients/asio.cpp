// Asio: its sockets are registered with epoll before they are connected, once and
// edge-triggered; four threads run the loop.
//
// Usage: asio ENDPOINT
#include <asio.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <future>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

using Socket = asio::generic::stream_protocol::socket;
using asio::use_future;

static std::string endpoint;
static asio::io_context io;

static asio::generic::stream_protocol::endpoint address() {
    if (endpoint[0] == '/') return asio::local::stream_protocol::endpoint(endpoint);
    return asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), (unsigned short)std::stoi(endpoint));
}

struct Client {
    Socket socket{io};
    std::string input;

    Client() { connect(); }

    // As long as the server is being restarted.
    void connect() {
        for (;;) {
            try {
                input.clear();
                socket = Socket(io);
                socket.async_connect(address(), use_future).get();
                return;
            } catch (const std::system_error &) {
                usleep(20000);
            }
        }
    }

    static std::string request(const std::vector<std::string> &words) {
        std::string text = "*" + std::to_string(words.size()) + "\r\n";
        for (auto &word : words) text += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
        return text;
    }

    void send(const std::string &text) { asio::async_write(socket, asio::buffer(text), use_future).get(); }

    // What comes up to `length` bytes from the beginning is there.
    std::string take(size_t length) {
        if (input.size() < length) {
            auto more = asio::transfer_at_least(length - input.size());
            asio::async_read(socket, asio::dynamic_buffer(input), more, use_future).get();
        }
        std::string taken = input.substr(0, length);
        input.erase(0, length);
        return taken;
    }

    // A reply as text: an array's elements behind each other.
    std::string reply() {
        size_t length = asio::async_read_until(socket, asio::dynamic_buffer(input), "\r\n", use_future).get();
        std::string line = take(length), rest = line.substr(1, length - 3);
        if (line[0] == '$') {
            if (rest == "-1") return "nil";
            std::string text = take(std::stoul(rest) + 2);
            return text.substr(0, text.size() - 2);
        }
        if (line[0] != '*') return rest;
        std::string elements;
        for (int left = std::stoi(rest); left > 0; left--) elements += (elements.empty() ? "" : " ") + reply();
        return elements;
    }

    std::string command(const std::vector<std::string> &words) {
        send(request(words));
        return reply();
    }

    // The test does what it is asked, and answers.
    std::string ask(const std::string &what) {
        std::string id = command({"CLIENT", "ID"});
        command({"RPUSH", "asked", what + " " + id + " " + std::to_string(getpid())});
        for (;;) {
            try {
                std::string answer = command({"BLPOP", "answer:" + id, "0"});
                return answer.substr(answer.rfind(' ') + 1);
            } catch (const std::system_error &) {
                connect();
            }
        }
    }

    long long commands(int count, const std::string &key = "key") {
        long long total = 0;
        for (int number = 0; number < count; number++) {
            command({"SET", key, std::to_string(number)});
            if (std::stoi(command({"GET", key})) != number) throw std::runtime_error("another value");
            total += std::stoll(command({"INCR", "counter"}));
        }
        return total;
    }

    std::string pipeline() {
        std::string all, last;
        for (int number = 0; number < 1000; number++) all += request({"INCRBY", "sum", std::to_string(number)});
        send(all);
        for (int number = 0; number < 1000; number++) last = reply();
        return last;
    }

    bool large(const std::string &key) {
        std::string value(3 << 20, ' ');
        for (size_t at = 0; at < value.size(); at++) value[at] = (char)at;
        command({"SET", key, value});
        return command({"GET", key}) == value;
    }
};

// Eight at once, each on a connection of its own.
static int tasks() {
    std::atomic<int> equal = 0;
    std::vector<std::thread> threads;
    for (int number = 0; number < 8; number++)
        threads.emplace_back([&, number] {
            Client client;
            client.commands(50, "key:" + std::to_string(number));
            equal += client.large("large:" + std::to_string(number));
            client.ask("check");
        });
    for (auto &thread : threads) thread.join();
    return equal;
}

// Subscribes on a connection that was used before.
static std::string messages(Client &client) {
    Client other;
    other.commands(20);
    other.ask("check");
    other.command({"SUBSCRIBE", "channel"});
    for (int number = 0; number < 10; number++) client.command({"PUBLISH", "channel", std::to_string(number)});
    std::string received;
    for (int number = 0; number < 10; number++) received += other.reply().substr(16);
    return received;
}

// What is written to a file goes there, also if its number was a connection's.
static std::string files(Client &client) {
    for (int number = 0; number < 20; number++) {
        for (int ping = 0; ping < 20; ping++) client.command({"PING"});
        client.socket.close();
        std::string text = "RPUSH leak " + std::to_string(number) + "\r\n", read_back(text.size(), ' ');
        int file = open("file.txt", O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (write(file, text.data(), text.size()) < 0 || pread(file, read_back.data(), text.size(), 0) < 0) abort();
        close(file);
        if (read_back != text) throw std::runtime_error("another text");
        client.connect();
    }
    return client.command({"EXISTS", "leak"});
}

int main(int count, char **arguments) {
    endpoint = arguments[count - 1];
    setvbuf(stdout, nullptr, _IOLBF, 0);
    auto work = asio::make_work_guard(io);
    for (int number = 0; number < 4; number++) std::thread([] { io.run(); }).detach();
    Client client;
    printf("commands %lld\n", client.commands(100));
    printf("pipeline %s\n", client.pipeline().c_str());
    printf("large %d\n", client.large("large"));
    printf("asked %s\n", client.ask("check").c_str());
    printf("tasks %d\n", tasks());
    printf("messages %s\n", messages(client).c_str());
    for (auto what : {"kill", "restart"}) {
        printf("%s %s", what, client.ask(what).c_str());
        printf(" %lld", client.commands(50));
        printf(" %s\n", client.ask("check").c_str());
    }
    printf("file %s\n", files(client).c_str());
    asio::signal_set signals(io, SIGTERM);
    signals.async_wait([](auto, auto) {
        printf("stopped\n");
        quick_exit(0);
    });
    client.ask("terminate");
}
