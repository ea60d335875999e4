// go run greet.go HOST PORT CA-FILE USERNAME PASSWORD
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

func main() {
	if len(os.Args) != 6 {
		log.Fatal("usage: greet HOST PORT CA-FILE USERNAME PASSWORD")
	}
	host, port, caFile, username, password := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	ca, err := os.ReadFile(caFile)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	options := mqtt.NewClientOptions().
		AddBroker("ssl://" + host + ":" + port).
		SetClientID("greet-go").
		SetUsername(username).
		SetPassword(password).
		SetTLSConfig(&tls.Config{RootCAs: roots}).
		SetWill("clients/go/gone", "gone", 1, false)
	client := mqtt.NewClient(options)
	check(client.Connect())
	check(client.Subscribe("clients/go/#", 1, func(_ mqtt.Client, message mqtt.Message) {
		fmt.Println(message.Topic(), string(message.Payload()))
	}))
	check(client.Publish("clients/go/greeting", 1, false, "hello from Go"))
	select {}
}

func check(token mqtt.Token) {
	token.Wait()
	if token.Error() != nil {
		log.Fatal(token.Error())
	}
}
