//! The examples of the documentation run, and do what it says.
#![allow(clippy::duplicate_mod, reason = "each example is whole")]
#![allow(dead_code, reason = "an example has a main function of its own")]

#[path = "../examples/by_hand.rs"]
mod by_hand;
#[path = "../examples/lamp.rs"]
mod lamp;
#[path = "../examples/switch.rs"]
mod switch;

use std::error::Error;

#[test]
fn the_switch_turns_the_lamp_on_and_off() -> Result<(), Box<dyn Error>> {
    use mesh_models::generic::OnOffServer;
    use mesh_models::switch::Switch;
    use mesh_proto::bearer::Received;

    let now = clock::Instant::ORIGIN;
    let (mut wall, mut lamp, mut rocker) = (switch::switch(1)?, lamp::lamp(2)?, Switch::new(0));
    for on in [true, false] {
        wall.handle_command(now, rocker.on_off(on, None))?;
        for sent in lamp::turn(&mut wall, now, None) {
            let heard = Received { ad_type: sent.ad_type, data: &sent.data, rssi: -60 };
            lamp::turn(&mut lamp, now, Some(&heard));
        }
        assert_eq!(lamp.server::<OnOffServer>(0).map(|server| server.is_on(now)), Some(on));
    }
    Ok(())
}

#[test]
fn the_programs_run() -> Result<(), Box<dyn Error>> {
    switch::main()?;
    by_hand::main()
}

#[test]
fn a_lamp_takes_60_lines() {
    let lamp = include_str!("../examples/lamp.rs");
    let code = lamp.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//"));
    let (imports, code): (Vec<&str>, Vec<&str>) = code.partition(|line| line.starts_with("use "));
    assert!(code.len() <= 60, "{} lines and {} imports", code.len(), imports.len());
}
