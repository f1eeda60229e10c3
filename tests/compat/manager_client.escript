#!/usr/bin/env escript
%% Asks a Manager as the original's library does: with Erlang's own HTTP client, the same four headers, and bodies as
%% lists of characters.
%%
%% Its arguments are the address of the Manager and a token. Each line of standard input is a request: method, path, and
%% perhaps a body, with tabs between. Each is answered on standard output by one line: status, location (or nothing) and
%% the body in base64, with tabs between.
-mode(compile).

main([Url, Token]) ->
    {ok, _} = application:ensure_all_started(inets),
    ok = io:setopts([binary, {encoding, utf8}]),
    serve(Url, Token).

serve(Url, Token) ->
    case io:get_line("") of
        eof ->
            halt(0);
        Line ->
            Parts = string:split(string:trim(Line, trailing, "\n"), "\t", all),
            io:format("~s~n", [answer(ask(Url, Token, Parts))]),
            serve(Url, Token)
    end.

ask(Url, Token, [Method, Path | Body]) ->
    Address = Url ++ binary_to_list(Path),
    Request =
        case Body of
            [] -> {Address, headers(Token)};
            [Json] -> {Address, headers(Token), "application/json", unicode:characters_to_list(Json)}
        end,
    {ok, Response} = httpc:request(list_to_existing_atom(binary_to_list(Method)), Request, [], []),
    Response.

headers(Token) ->
    [
        {"Accept", "application/json"},
        {"Content-Type", "application/json"},
        {"User-Agent", "openaperture-manager-api"},
        {"Authorization", "Bearer access_token=" ++ Token}
    ].

answer({{_, Status, _}, Headers, Body}) ->
    Location = proplists:get_value("location", Headers, ""),
    io_lib:format("~b\t~s\t~s", [Status, Location, base64:encode(iolist_to_binary(Body))]).
