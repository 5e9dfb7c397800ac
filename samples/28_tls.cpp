// TLS: a server with certificates for two names that knows its clients by theirs, and gets a new
// certificate while it serves. All of them are made on the spot; a real program reads files, with
// tls::certificate::files().

#include <iostream>

#include <parley/parley.hpp>
#include <parley/protocol/line_message.hpp>

#include "run_sample.hpp"

namespace tls = parley::tls;

struct lines {
    using request = parley::line_message;
    using response = parley::line_message;
};

// [handler]
parley::task<> greet(parley::connection<lines> peer) {
    while (auto asked = co_await peer.recv()) {
        const auto who = peer.tls_peer(); // there since recv(): the handshake is through
        const std::string name = who && who->verified ? who->common_name : "stranger";
        if (auto sent = co_await peer.send(parley::line_message("hello, " + name)); !sent)
            co_return;
    }
}
// [/handler]

// [client]
parley::task<> ask(parley::endpoint where, std::string host, tls::client_options how) {
    const auto context = tls::context::client(how).value(); // throws what cannot be loaded
    parley::client<lines> server(where, parley::client_options().tls(context).server_name(host));
    auto answer = co_await server.request(parley::line_message("who am I?"));
    if (answer)
        std::cout << host << ": " << answer->text() << std::endl;
    else
        std::cout << host << ": " << answer.error().detail() << std::endl;
}
// [/client]

parley::task<> serve_and_ask() {
    // [server]
    const auto shop = tls::certificate::self_signed({"shop.example"}).value();
    const auto blog = tls::certificate::self_signed({"blog.example", "*.blog.example"}).value();
    const auto alice = tls::certificate::self_signed({"alice"}).value();

    const auto clients = tls::trust().pem(alice.chain_pem());
    const auto context =
        tls::context::server(tls::server_options().add(shop).add(blog).accept_client_certificate(clients));

    parley::serve_options options;
    parley::server<lines> door({"127.0.0.1", 0}, greet, options.tls(context.value()));
    // [/server]
    const parley::endpoint where = (co_await door.listen()).value();

    const auto trusting = tls::client_options().trust_pem(shop.chain_pem()).trust_pem(blog.chain_pem());
    co_await ask(where, "shop.example", trusting);
    co_await ask(where, "news.blog.example", tls::client_options(trusting).certificate(alice));
    co_await ask(where, "shop.example", tls::client_options().trust_pem(blog.chain_pem()));

    // [reload]
    const auto new_shop = tls::certificate::self_signed({"new-shop.example"}).value();
    auto reloaded = context->reload(tls::server_options().add(new_shop)); // of files: context->reload()
    if (!reloaded)
        std::cerr << "the old certificates stay: " << reloaded.error() << std::endl;
    // [/reload]
    co_await ask(where, "shop.example", tls::client_options().trust_pem(new_shop.chain_pem()));
    co_await ask(where, "new-shop.example", tls::client_options().trust_pem(new_shop.chain_pem()));
    co_await door.close();
}

int main(int argc, char **argv) {
    return run_sample(argc, argv, serve_and_ask());
}
