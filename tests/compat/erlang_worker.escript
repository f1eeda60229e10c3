#!/usr/bin/env escript
%% A builder and a deployer as those of the original: Erlang alone, with RabbitMQ's own client. It trusts nothing
%% that it is sent: what a worker of the original reads or computes with is looked at first.
%%
%% Its argument is an Erlang term, a map:
%%     port       of the RabbitMQ on loopback
%%     brokers    broker id -> virtual host
%%     exchanges  exchange id -> {root exchange, routing key}, as the Manager would say
%%     consumes   [{broker id, queue, builder | deployer}]
%% Standard input takes `start <id> <deployment repo> <milestone,...>` and `again <id>`, until it ends. Standard
%% output says `ready`, `took <id> <step>`, and `wrong <id> <what>`. The name of the deployment repo says how its
%% release goes: see answers/2. ERL_LIBS has to name the folder of RabbitMQ's libraries.
-mode(compile).
-include_lib("amqp_client/include/amqp_client.hrl").

main([Text]) ->
    Plan = term_of(Text),
    logger:set_primary_config(level, error),
    {ok, _} = application:ensure_all_started(amqp_client),
    Main = self(),
    spawn_link(fun() -> listen(Main) end),
    Channels = maps:map(fun(_, VirtualHost) -> open(maps:get(port, Plan), VirtualHost) end, maps:get(brokers, Plan)),
    Roles = maps:from_list([consume(Channels, Consumed) || Consumed <- maps:get(consumes, Plan)]),
    say("ready", []),
    serve(Plan#{channels => Channels, roles => Roles}, #{}).

%% Last is the last answer by workflow id: the bytes, exactly as they were sent.
serve(Plan, Last) ->
    receive
        {command, ["start", Id, Repo, Milestones]} ->
            publish(Plan, start_message(Plan, Id, Repo, Milestones)),
            serve(Plan, Last);
        {command, ["again", Id]} ->
            {Message, Body} = maps:get(list_to_binary(Id), Last),
            publish(Plan, Message, Body),
            serve(Plan, Last);
        {command, stop} ->
            halt(0);
        {#'basic.deliver'{consumer_tag = Tag, delivery_tag = Delivery}, #amqp_msg{props = Properties, payload = Body}} ->
            {Role, Channel} = maps:get(Tag, maps:get(roles, Plan)),
            serve(Plan, handle(Plan, Last, Role, Channel, Delivery, Properties, Body));
        _ ->
            serve(Plan, Last)
    end.

handle(Plan, Last, Role, Channel, Delivery, Properties, Body) ->
    Request = binary_to_term(Body),
    [say("wrong ~s ~p", [name_of(Request), Fault]) || Fault <- faults(Role, Request, Properties)],
    Step = maps:get(current_step, Request),
    Answers = [{Answer, term_to_binary(Answer)} || Answer <- answers(Role, Request)],
    Stale = [maps:get(name_of(Request), Last) || goes(Request, <<"stale">>), is_map_key(name_of(Request), Last)],
    Ack = fun() -> ok = amqp_channel:cast(Channel, #'basic.ack'{delivery_tag = Delivery}) end,
    Send = fun() -> [publish(Plan, Message, Bytes) || {Message, Bytes} <- Stale ++ Answers] end,
    %% The Deployer acknowledges before it tells how it went.
    case Role of
        deployer -> Ack(), Send();
        builder -> Send(), Ack()
    end,
    say("took ~s ~s", [name_of(Request), Step]),
    Last#{name_of(Request) => lists:last(Answers)}.

name_of(#{id := Id}) -> Id;
name_of(_) -> <<"(no map)">>.

%% ------------------------------------------------------------------------------------ what workers rely on

keys() ->
    lists:sort([id, workflow_id, deployment_repo, deployment_repo_git_ref, source_repo, source_repo_git_ref,
     source_commit_hash, milestones, current_step, elapsed_step_time, elapsed_workflow_time, workflow_duration,
     workflow_step_durations, workflow_error, workflow_completed, event_log, scheduled_start_time, execute_options,
     force_build, build_messaging_exchange_id, deploy_messaging_exchange_id, workflow_start_time, step_time,
     orchestration_queue_name, workflow_orchestration_exchange_id, workflow_orchestration_broker_id,
     notifications_exchange_id, notifications_broker_id, docker_build_etcd_token, etcd_token, deployable_units,
     notifications_config, fleet_config, aws_config, ecs_task_definition]).

faults(Role, Request, Properties) ->
    Held = fun(Key) -> maps:get(Key, Request, missing) end,
    Checks = [
        {keys, lists:sort(maps:keys(Request)) =:= keys()},
        {current_step, is_step(Role, Held(current_step))},
        {milestones, is_list(Held(milestones)) andalso lists:all(fun is_binary/1, Held(milestones))},
        {event_log, is_list(Held(event_log)) andalso lists:all(fun is_binary/1, Held(event_log))},
        {workflow_start_time, is_past(Held(workflow_start_time))},
        {step_time, is_past(Held(step_time))},
        {flags, {Held(workflow_completed), Held(workflow_error)} =:= {false, false}},
        {orchestration_queue_name, Held(orchestration_queue_name) =:= <<"workflow_orchestration">>},
        {elapsed, is_binary(Held(elapsed_workflow_time))},
        {properties, is_persistent_and_bare(Properties)}
        | [{Key, is_handed_on(Request, Key)} || Key <- maps:keys(found(Request))]
    ],
    [{Name, Held(Name)} || {Name, false} <- Checks].

%% The Builder knows its steps as atoms only.
is_step(builder, Step) -> lists:member(Step, [config, build]);
is_step(deployer, Step) -> lists:member(Step, [deploy, deploy_oa, deploy_ecs]).

%% Workers compute with it: anything but a timestamp ends in a crash here as there.
is_past(Time) -> timer:now_diff(os:timestamp(), Time) >= 0.

%% Delivery mode 2, and nothing else said.
is_persistent_and_bare(Properties) -> Properties =:= #'P_basic'{delivery_mode = 2}.

%% After `config` every request has what `config` found out, to the last bit.
is_handed_on(#{current_step := config}, _) -> true;
is_handed_on(#{milestones := [<<"config">> | _]} = Request, Key) ->
    maps:get(Key, Request) =:= maps:get(Key, found(Request));
is_handed_on(_, _) -> true.

%% --------------------------------------------------------------------------------------------- what they do

found(#{id := Id, milestones := Milestones} = Request) ->
    Cluster = case goes(Request, <<"lab">>) of true -> <<"lab-tok">>; false -> <<"app-tok-2">> end,
    Unit = #{
        <<"name">> => <<"shop@1.service">>,
        <<"options">> => [#{<<"section">> => <<"Unit">>, <<"name">> => <<"Description">>, <<"value">> => <<"Caf", 195, 169>>}],
        <<"desiredState">> => <<"launched">>,
        <<"currentState">> => nil,
        <<"machineID">> => <<>>
    },
    #{
        source_repo_git_ref => binary:part(binary:encode_hex(crypto:hash(sha, Id)), 0, 40),
        etcd_token => case lists:member(<<"deploy">>, Milestones) of true -> Cluster; false -> nil end,
        deployable_units => [Unit, Unit#{<<"options">> => []}],
        notifications_config => #{<<"hipchat">> => #{<<"room_names">> => [<<"releases">>]}},
        fleet_config => #{<<"instance_cnt">> => 3, <<"small">> => [1, 2, 3], <<"share">> => 0.5},
        aws_config => #{<<"region">> => <<"eu-west-1">>, <<"ecs">> => #{<<"task-count">> => 2}},
        ecs_task_definition => <<"{\"family\": \"shop\"}">>
    }.

%% Whether the name of the deployment repo has this word.
goes(#{deployment_repo := Repo}, Word) -> binary:match(Repo, Word) =/= nomatch.

answers(builder, #{current_step := build} = Request) ->
    case goes(Request, <<"unbuildable">>) of
        true -> [failed(Request, <<"the image cannot be built">>)];
        false -> as_often_as_it_goes(Request, logged(Request, <<"built">>))
    end;
answers(builder, Request) ->
    as_often_as_it_goes(Request, maps:merge(logged(Request, <<"configured">>), found(Request)));
answers(deployer, Request) ->
    case {goes(Request, <<"hostless">>), goes(Request, <<"unmonitored">>)} of
        {true, _} ->
            %% No hosts: it fails, goes on all the same, and is done with both flags still set.
            Failed = failed(Request, <<"there are no hosts">>),
            [Failed, logged(Failed, <<"monitored">>)];
        {_, true} ->
            %% The time to monitor is over, and two parts of it say so.
            Failed = failed(Request, <<"it did not come up">>),
            [Failed, failed(Failed, <<"it did not come up">>)];
        _ -> as_often_as_it_goes(Request, logged(Request, <<"deployed">>))
    end.

as_often_as_it_goes(Request, Answer) ->
    case goes(Request, <<"twice">>) of true -> [Answer, Answer]; false -> [Answer] end.

failed(Request, Reason) -> logged(Request#{workflow_error := true, workflow_completed := true}, Reason).

logged(#{id := Id, event_log := Log} = Request, Text) ->
    Request#{event_log := Log ++ [<<"[OA][", Id/binary, "] ", Text/binary>>]}.

%% As the Manager begins a workflow: its older library knows 33 keys.
start_message(Plan, Id, Repo, Milestones) ->
    Nothing = maps:from_list([{Key, nil} || Key <- keys() -- [aws_config, ecs_task_definition]]),
    Ours = case maps:keys(maps:get(exchanges, Plan)) of [] -> nil; [First | _] -> First end,
    Nothing#{
        id := list_to_binary(Id),
        deployment_repo := list_to_binary(Repo),
        source_repo := <<"https://git.example.test/shop.git">>,
        source_repo_git_ref := <<"main">>,
        milestones := [list_to_binary(Name) || Name <- string:lexemes(Milestones, ",")],
        workflow_completed := false,
        event_log := [],
        orchestration_queue_name := <<"workflow_orchestration">>,
        workflow_orchestration_exchange_id := Ours,
        workflow_orchestration_broker_id := Ours,
        notifications_exchange_id := Ours,
        notifications_broker_id := Ours
    }.

%% -------------------------------------------------------------------------------------------- RabbitMQ

open(Port, VirtualHost) ->
    Parameters = #amqp_params_network{virtual_host = VirtualHost, host = "127.0.0.1", port = Port},
    {ok, Connection} = amqp_connection:start(Parameters),
    {ok, Channel} = amqp_connection:open_channel(Connection),
    Channel.

consume(Channels, {Broker, Queue, Role}) ->
    Channel = maps:get(Broker, Channels),
    #'basic.consume_ok'{consumer_tag = Tag} =
        amqp_channel:subscribe(Channel, #'basic.consume'{queue = Queue}, self()),
    {Tag, {Role, Channel}}.

publish(Plan, Message) -> publish(Plan, Message, term_to_binary(Message)).

%% To the queue that the message itself names, in the exchange and at the broker that it names.
publish(Plan, #{orchestration_queue_name := Queue} = Message, Body) ->
    {Exchange, Key} =
        case maps:get(workflow_orchestration_exchange_id, Message) of
            nil -> {<<>>, Queue};
            Id -> {Root, Prefix} = maps:get(Id, maps:get(exchanges, Plan)), {Root, <<Prefix/binary, ".", Queue/binary>>}
        end,
    Channel =
        case maps:get(workflow_orchestration_broker_id, Message) of
            nil -> hd(maps:values(maps:get(channels, Plan)));
            Broker -> maps:get(Broker, maps:get(channels, Plan))
        end,
    Publish = #'basic.publish'{exchange = Exchange, routing_key = Key},
    ok = amqp_channel:call(Channel, Publish, #amqp_msg{props = #'P_basic'{delivery_mode = 2}, payload = Body}).

%% --------------------------------------------------------------------------------------- the one who watches

listen(Main) ->
    case io:get_line("") of
        eof -> Main ! {command, stop};
        Line -> Main ! {command, string:lexemes(Line, " \n")}, listen(Main)
    end.

say(Format, Values) -> io:format(Format ++ "~n", Values).

term_of(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Term} = erl_parse:parse_term(Tokens),
    Term.
