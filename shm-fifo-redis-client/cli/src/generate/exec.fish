
# Behind exec's -- stands a command with completions of its own.
function __fish_redis_shm_behind_dashes
    contains -- -- (commandline -opc)
end
function __fish_redis_shm_complete_behind_dashes
    set -l words (commandline -opc)
    set -e words[1..(contains -i -- -- $words)]
    complete -C (string join -- ' ' (string escape -- $words) (commandline -ct))
end
complete -c redis-shm -n "__fish_redis_shm_using_subcommand exec; and __fish_redis_shm_behind_dashes" -f -a "(__fish_redis_shm_complete_behind_dashes)"
