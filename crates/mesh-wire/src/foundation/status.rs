use core::fmt;

use crate::DecodeError;

macro_rules! statuses {
    ($($code:literal $name:ident $text:literal,)*) => {
        /// The status codes of the foundation models (MshPRT §4.3.5).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Status {
            $(#[doc = $text] $name = $code,)*
        }

        impl TryFrom<u8> for Status {
            type Error = DecodeError;

            fn try_from(code: u8) -> Result<Self, DecodeError> {
                match code {
                    $($code => Ok(Self::$name),)*
                    _ => Err(DecodeError::Prohibited("Status")),
                }
            }
        }

        impl fmt::Display for Status {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }
    };
}

statuses! {
    0x00 Success "Success",
    0x01 InvalidAddress "Invalid Address",
    0x02 InvalidModel "Invalid Model",
    0x03 InvalidAppKeyIndex "Invalid AppKey Index",
    0x04 InvalidNetKeyIndex "Invalid NetKey Index",
    0x05 InsufficientResources "Insufficient Resources",
    0x06 KeyIndexAlreadyStored "Key Index Already Stored",
    0x07 InvalidPublishParameters "Invalid Publish Parameters",
    0x08 NotASubscribeModel "Not a Subscribe Model",
    0x09 StorageFailure "Storage Failure",
    0x0a FeatureNotSupported "Feature Not Supported",
    0x0b CannotUpdate "Cannot Update",
    0x0c CannotRemove "Cannot Remove",
    0x0d CannotBind "Cannot Bind",
    0x0e TemporarilyUnableToChangeState "Temporarily Unable to Change State",
    0x0f CannotSet "Cannot Set",
    0x10 UnspecifiedError "Unspecified Error",
    0x11 InvalidBinding "Invalid Binding",
    0x12 InvalidPathEntry "Invalid Path Entry",
    0x13 CannotGet "Cannot Get",
    0x14 ObsoleteInformation "Obsolete Information",
    0x15 InvalidBearer "Invalid Bearer",
}
