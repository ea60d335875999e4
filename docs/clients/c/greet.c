/* cc greet.c -o greet -lmosquitto */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void on_connect(struct mosquitto *client, void *data, int code)
{
    if (code != 0) {
        fprintf(stderr, "refused: %s\n", mosquitto_connack_string(code));
        exit(1);
    }
    mosquitto_subscribe(client, NULL, "clients/c/#", 1);
}

static void on_subscribe(struct mosquitto *client, void *data, int id, int count, const int *granted)
{
    const char *text = "hello from C";
    mosquitto_publish(client, NULL, "clients/c/greeting", strlen(text), text, 1, false);
}

static void on_message(struct mosquitto *client, void *data, const struct mosquitto_message *message)
{
    printf("%s %.*s\n", message->topic, message->payloadlen, (char *)message->payload);
    fflush(stdout);
}

int main(int count, char **arguments)
{
    if (count != 6) {
        fprintf(stderr, "usage: greet HOST PORT CA-FILE USERNAME PASSWORD\n");
        return 2;
    }
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new("greet-c", true, NULL);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_subscribe_callback_set(client, on_subscribe);
    mosquitto_message_callback_set(client, on_message);
    mosquitto_tls_set(client, arguments[3], NULL, NULL, NULL, NULL);
    mosquitto_username_pw_set(client, arguments[4], arguments[5]);
    mosquitto_will_set(client, "clients/c/gone", 4, "gone", 1, false);
    int code = mosquitto_connect(client, arguments[1], atoi(arguments[2]), 30);
    if (code != MOSQ_ERR_SUCCESS) {
        fprintf(stderr, "cannot connect: %s\n", mosquitto_strerror(code));
        return 1;
    }
    return mosquitto_loop_forever(client, -1, 1);
}
