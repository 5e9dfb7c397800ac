// What a parser tells of an input that comes in pieces, as a line of text. "broken" stands in it where the parser does
// not keep to its own rules.

#pragma once

#include <parley/http/parser.hpp>

#include <string>
#include <string_view>
#include <vector>

inline std::string told_of_pieces(parley::http::parser::role role,
                                  const std::vector<std::string_view> &pieces, std::string_view answers,
                                  const parley::http::limits &most) {
    using parley::http::parser;
    parser p(role, most);
    const auto text = [](const parley::http::fields &all) {
        std::string joined = "{";
        for (const auto [name, value] : all)
            joined.append(joined.size() > 1 ? "|" : "").append(name).append(": ").append(value);
        return joined + "}";
    };
    std::string told, body;
    const auto tell = [&](const std::string &what) {
        if (!body.empty())
            told.append(told.empty() ? "" : "; ").append("data ").append(body);
        body.clear();
        told.append(told.empty() ? "" : "; ").append(what);
    };
    if (!answers.empty())
        p.answer_to(answers);
    for (std::string_view piece : pieces) {
        for (bool more = false; !more;) {
            const auto &head = p.head();
            const std::size_t before = piece.size();
            switch (p.next(piece)) {
            case parser::event::need_more:
                if (!piece.empty())
                    return told + "; broken: input is left";
                more = true;
                break;
            case parser::event::interim:
                tell("interim " + std::to_string(head.status) + " " + text(head.header));
                break;
            case parser::event::head:
                tell("head " +
                     (role == parser::request ? head.method + " " + head.target
                                              : std::to_string(head.status) + " " + head.reason) +
                     " 1." + std::to_string(head.minor_version) + " " + text(head.header) +
                     (p.keep_alive() ? " keep" : ""));
                break;
            case parser::event::data:
                if (p.data().empty() || piece.size() >= before)
                    return told + "; broken: data of nothing";
                body += p.data();
                break;
            case parser::event::end:
                if (!p.trailer().empty())
                    tell("trailer " + text(p.trailer()));
                tell("end");
                if (p.upgraded())
                    return told;
                p.reset();
                break;
            case parser::event::error:
                tell("error " + std::to_string(p.error().status) + " " + p.error().what);
                return told;
            }
        }
    }
    switch (p.finish()) {
    case parser::event::end:
        tell("end");
        break;
    case parser::event::need_more:
        tell("need_more");
        break;
    default:
        tell("cut: " + p.error().what);
    }
    return told;
}
