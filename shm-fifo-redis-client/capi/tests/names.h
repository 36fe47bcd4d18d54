/* The tests are one for both libraries: with -DLIBVALKEY they are for libvalkey. */
#ifdef LIBVALKEY
#include "shm_fifo_libvalkey.h"
#define LIBRARY "libvalkey"
#define CONNECTED
#define redisContext valkeyContext
#define redisAsyncContext valkeyAsyncContext
#define redisReply valkeyReply
#define redisConnectUnix valkeyConnectUnix
#define redisConnect valkeyConnect
#define redisConnectNonBlock valkeyConnectNonBlock
#define redisReconnect valkeyReconnect
#define redisCommand valkeyCommand
#define redisAppendCommand valkeyAppendCommand
#define redisGetReply valkeyGetReply
#define redisSetTimeout valkeySetTimeout
#define redisFree valkeyFree
#define redisFreeKeepFd valkeyFreeKeepFd
#define redisConnectFd valkeyConnectFd
#define redisContextFuncs valkeyContextFuncs
#define redisAsyncConnectUnix valkeyAsyncConnectUnix
#define redisAsyncConnect valkeyAsyncConnect
#define redisAsyncCommand valkeyAsyncCommand
#define redisAsyncDisconnect valkeyAsyncDisconnect
#define redisAsyncFree valkeyAsyncFree
#define redisAsyncHandleRead valkeyAsyncHandleRead
#define redisAsyncHandleWrite valkeyAsyncHandleWrite
#define redisAsyncHandleTimeout valkeyAsyncHandleTimeout
#define redisAsyncSetTimeout valkeyAsyncSetTimeout
#define redisAsyncSetPushCallback valkeyAsyncSetPushCallback
#define redisAsyncSetConnectCallback valkeyAsyncSetConnectCallback
#define redisAsyncSetDisconnectCallback valkeyAsyncSetDisconnectCallback
#define redisShmInitiate valkeyShmInitiate
#define redisShmInitiateAsync valkeyShmInitiateAsync
#define redisIsOnShm valkeyIsOnShm
#define redisShmConnection valkeyShmConnection
#define REDIS_OK VALKEY_OK
#define REDIS_ERR VALKEY_ERR
#define REDIS_ERR_IO VALKEY_ERR_IO
#define REDIS_ERR_EOF VALKEY_ERR_EOF
#define REDIS_ERR_TIMEOUT VALKEY_ERR_TIMEOUT
#define REDIS_REPLY_ERROR VALKEY_REPLY_ERROR
#define REDIS_REPLY_INTEGER VALKEY_REPLY_INTEGER
#define REDIS_REPLY_ARRAY VALKEY_REPLY_ARRAY
#define REDIS_REPLY_STATUS VALKEY_REPLY_STATUS
#else
#include "shm_fifo_hiredis.h"
#define LIBRARY "hiredis"
#define CONNECTED const
#endif
