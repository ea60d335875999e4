use crate::DecodeError;

macro_rules! reason_codes {
    ($($value:literal $name:ident $text:literal,)*) => {
        /// The Reason Codes of MQTT 5.0 (§2.4). Codes of 0x80 and above report a failure.
        ///
        /// In MQTT 3.x the codes of CONNACK and SUBACK are other ones; the codec translates.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "the names are the standard's")]
        pub enum ReasonCode {
            $($name = $value,)*
        }

        impl TryFrom<u8> for ReasonCode {
            type Error = DecodeError;

            fn try_from(value: u8) -> Result<Self, DecodeError> {
                match value {
                    $($value => Ok(Self::$name),)*
                    _ => Err(DecodeError::ReasonCode(value)),
                }
            }
        }

        impl std::fmt::Display for ReasonCode {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

reason_codes! {
    0x00 Success "Success",
    0x01 GrantedQoS1 "Granted QoS 1",
    0x02 GrantedQoS2 "Granted QoS 2",
    0x04 DisconnectWithWillMessage "Disconnect with Will Message",
    0x10 NoMatchingSubscribers "No matching subscribers",
    0x11 NoSubscriptionExisted "No subscription existed",
    0x18 ContinueAuthentication "Continue authentication",
    0x19 ReAuthenticate "Re-authenticate",
    0x80 UnspecifiedError "Unspecified error",
    0x81 MalformedPacket "Malformed Packet",
    0x82 ProtocolError "Protocol Error",
    0x83 ImplementationSpecificError "Implementation specific error",
    0x84 UnsupportedProtocolVersion "Unsupported Protocol Version",
    0x85 ClientIdentifierNotValid "Client Identifier not valid",
    0x86 BadUserNameOrPassword "Bad User Name or Password",
    0x87 NotAuthorized "Not authorized",
    0x88 ServerUnavailable "Server unavailable",
    0x89 ServerBusy "Server busy",
    0x8a Banned "Banned",
    0x8b ServerShuttingDown "Server shutting down",
    0x8c BadAuthenticationMethod "Bad authentication method",
    0x8d KeepAliveTimeout "Keep Alive timeout",
    0x8e SessionTakenOver "Session taken over",
    0x8f TopicFilterInvalid "Topic Filter invalid",
    0x90 TopicNameInvalid "Topic Name invalid",
    0x91 PacketIdentifierInUse "Packet Identifier in use",
    0x92 PacketIdentifierNotFound "Packet Identifier not found",
    0x93 ReceiveMaximumExceeded "Receive Maximum exceeded",
    0x94 TopicAliasInvalid "Topic Alias invalid",
    0x95 PacketTooLarge "Packet too large",
    0x96 MessageRateTooHigh "Message rate too high",
    0x97 QuotaExceeded "Quota exceeded",
    0x98 AdministrativeAction "Administrative action",
    0x99 PayloadFormatInvalid "Payload format invalid",
    0x9a RetainNotSupported "Retain not supported",
    0x9b QoSNotSupported "QoS not supported",
    0x9c UseAnotherServer "Use another server",
    0x9d ServerMoved "Server moved",
    0x9e SharedSubscriptionsNotSupported "Shared Subscriptions not supported",
    0x9f ConnectionRateExceeded "Connection rate exceeded",
    0xa0 MaximumConnectTime "Maximum connect time",
    0xa1 SubscriptionIdentifiersNotSupported "Subscription Identifiers not supported",
    0xa2 WildcardSubscriptionsNotSupported "Wildcard Subscriptions not supported",
}

impl ReasonCode {
    /// 0x00 in DISCONNECT.
    pub const NORMAL_DISCONNECTION: Self = Self::Success;
    /// 0x00 in SUBACK.
    pub const GRANTED_QOS_0: Self = Self::Success;

    /// Whether it reports a failure.
    pub fn is_error(self) -> bool {
        self as u8 >= 0x80
    }
}
