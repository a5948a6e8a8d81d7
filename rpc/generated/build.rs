//! The same definitions in each form that the generator has.

fn main() -> Result<(), ringway_build::Error> {
    let proto = &["proto/forms.proto"];
    let forms = || ringway_build::configure().runtime("::ringway_rpc");
    forms().file_name("buffa").compile(proto)?;
    forms()
        .file_name("mixed")
        .plain("test.forms.Forms/Get")
        .compile(proto)?;
    forms()
        .file_name("plain")
        .plain("test.forms.Plain")
        .compile(proto)?;
    forms()
        .file_name("prost")
        .prost()
        .plain("test.forms.Plain")
        .compile(proto)
}
