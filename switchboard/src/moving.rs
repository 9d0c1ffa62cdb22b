//! `switchboard export` and `switchboard import`: all records of the three stores into one file, and back into three
//! stores of any kind. Each service reads and writes its own; here they are strung together, checked and shown on their
//! way. Neither holds more than some batches in memory.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use mesh::{
    config::Flags,
    migration::Migrations,
    moving::{House, Line, Mark, MoveError, Out},
};
use tokio::sync::{mpsc, oneshot};

use self::file::{Header, Reader, Sums, Tally};
use crate::{
    settings::Settings,
    stores::{self, CommandError},
};

mod file;

pub(crate) use file::FileError;

/// Records that wait for the file.
const RECORDS_WAITING: usize = 1_024;
/// Lines of one write to a store, at most.
const LINES_MAX: usize = 1_000;
/// Batches that wait for the stores: while one is written the next is read.
const BATCHES_WAITING: usize = 2;

/// The three stores, in the order in which their records come.
struct Houses(Vec<Box<dyn House>>);

impl Houses {
    async fn open(settings: &Settings, migrations: Migrations) -> Result<Self, CommandError> {
        let Settings { auth, user, message, .. } = settings;
        let (data, auth, user, message) = (&auth.mesh.data, &auth.auth, &user.user, &message.message);
        Ok(Self(vec![
            auth_svc::store::house(&auth.store_url, data, &auth.store, migrations).await?,
            user_svc::store::house(&user.store_url, data, &user.store, migrations).await?,
            message_svc::store::house(message, data, migrations).await?,
        ]))
    }

    fn fields(&self) -> BTreeMap<String, Vec<String>> {
        let kinds = self.0.iter().flat_map(|house| house.kinds());
        let owned =
            |(kind, fields): (&str, Vec<&str>)| (kind.to_owned(), fields.into_iter().map(str::to_owned).collect());
        kinds.map(owned).collect()
    }

    /// Hands every record to `take`, and sums them up.
    async fn read(&self, mut take: impl FnMut(&str) -> io::Result<()>) -> Result<Sums, CommandError> {
        let mut tally = Tally::default();
        for house in &self.0 {
            let (sender, mut records) = mpsc::channel(RECORDS_WAITING);
            let out = Out(sender);
            let taking = async {
                while let Some(record) = records.recv().await {
                    tally.add(record.kind, record.text.as_bytes());
                    take(&record.text)?;
                }
                Ok::<_, io::Error>(())
            };
            let reading = async move { house.export(&out).await };
            let (read, taken) = tokio::join!(reading, taking);
            taken.map_err(CommandError::Written)?;
            read?;
        }
        Ok(tally.sums())
    }

    async fn close(&self) {
        for house in &self.0 {
            house.close().await;
        }
    }
}

/// Writes everything to a file, or to standard output for `-`.
pub(crate) fn export(flags: &Flags, to: PathBuf) -> ExitCode {
    stores::run(flags, |settings| async move {
        let houses = Houses::open(&settings, Migrations::Check).await?;
        let header = Header::new(houses.fields());
        let mut target = Target::open(&to).map_err(CommandError::Written)?;
        target.put(&header.line()).map_err(CommandError::Written)?;
        let bar = bar("written", None);
        let sums = houses
            .read(|text| {
                bar.inc(1);
                target.put(text)?;
                target.put("\n")
            })
            .await?;
        target.put(&sums.line()).map_err(CommandError::Written)?;
        target.finish().map_err(CommandError::Written)?;
        bar.finish_and_clear();
        houses.close().await;
        say(&format!("exported {sums}"));
        Ok(())
    })
}

/// Reads everything from a file, or from standard input for `-`.
pub(crate) fn import(flags: &Flags, from: PathBuf) -> ExitCode {
    stores::run(flags, |settings| async move {
        let (reader, total) = aside(move || open(&from)).await??;
        let header = reader.header.clone();
        let houses = Houses::open(&settings, Migrations::Run).await?;
        let known = houses.fields();
        if let Some(kind) = header.fields.keys().find(|kind| !known.contains_key(*kind)) {
            return Err(CommandError::Unknown(kind.clone()));
        }
        if is_done(&houses, &header).await? {
            houses.close().await;
            say("this file has been imported already: nothing was changed");
            return Ok(());
        }
        let written = write(&houses, reader, total).await?;
        // What was written is read again, and must be what the file says.
        let bar = bar("compared", Some(written.count()));
        let found = houses.read(|_| {
            bar.inc(1);
            Ok(())
        });
        let found = found.await?;
        bar.finish_and_clear();
        let differing = header.differing(&written, &found, &known);
        if !differing.is_empty() {
            return Err(CommandError::Differs(differing.join(", ")));
        }
        for house in &houses.0 {
            house.marks().set(Mark { file: header.id, done: true }).await?;
        }
        houses.close().await;
        say(&format!("imported and checked {written}"));
        Ok(())
    })
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn input(path: &Path) -> Result<Box<dyn BufRead + Send>, CommandError> {
    if is_standard(path) {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    // A folder can be opened like a file, and says what it is only when it is read.
    let unread = |error| FileError::Open(path.display().to_string(), error);
    if fs::metadata(path).map_err(unread)?.is_dir() {
        return Err(unread(io::ErrorKind::IsADirectory.into()).into());
    }
    let file = File::open(path).map_err(unread)?;
    Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
}

type Input = Reader<Box<dyn BufRead + Send>>;

/// Opens the file, and reads it through before anything is written, which a pipe cannot be; how many records it has.
fn open(path: &Path) -> Result<(Input, Option<u64>), CommandError> {
    if is_standard(path) {
        return Ok((Reader::open(input(path)?)?, None));
    }
    let mut reader = Reader::open(input(path)?)?;
    let bar = bar("looked through", None);
    while reader.next()?.is_some() {
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((Reader::open(input(path)?)?, reader.sums.map(|sums| sums.count())))
}

/// Runs what may wait for a pipe, in a thread that nobody waits for when a signal ends the command.
fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, CommandError>> {
    let (sender, done) = oneshot::channel();
    // Whoever asked may have gone.
    std::thread::spawn(move || drop(sender.send(work())));
    async { done.await.map_err(|error| CommandError::Store(error.to_string(), None)) }
}

/// Whether this file is in all stores already. Stores that hold something else are refused before any is marked.
async fn is_done(houses: &Houses, header: &Header) -> Result<bool, CommandError> {
    let mut done = true;
    let mut unmarked = Vec::new();
    for house in &houses.0 {
        match house.marks().get().await? {
            Some(mark) if mark.file == header.id => done &= mark.done,
            Some(_) => return Err(CommandError::OtherImport),
            None if house.is_empty().await? => {
                done = false;
                unmarked.push(house);
            }
            None => return Err(CommandError::NotEmpty(house.kinds().first().map_or("", |(kind, _)| kind))),
        }
    }
    for house in unmarked {
        house.marks().set(Mark { file: header.id, done: false }).await?;
    }
    Ok(done)
}

/// Writes all records, in batches; gives what the last line of the file says of them.
async fn write(houses: &Houses, reader: Input, total: Option<u64>) -> Result<Sums, CommandError> {
    let bar = bar("written", total);
    let (sender, mut batches) = mpsc::channel(BATCHES_WAITING);
    let reading = aside(move || read_batches(reader, &sender));
    while let Some(batch) = batches.recv().await {
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        for some in parts(houses, batch) {
            let (house, lines) = some?;
            house.write(lines).await?;
        }
        bar.inc(count);
    }
    let sums = reading.await??;
    bar.finish_and_clear();
    Ok(sums)
}

/// Reads the file for [`write()`].
fn read_batches(mut reader: Input, sender: &mpsc::Sender<Vec<Line>>) -> Result<Sums, FileError> {
    let mut batch = Vec::with_capacity(LINES_MAX);
    while let Some(line) = reader.next()? {
        batch.push(line);
        // Whoever writes may have failed; it says why.
        if batch.len() == LINES_MAX && sender.blocking_send(std::mem::take(&mut batch)).is_err() {
            break;
        }
    }
    drop(sender.blocking_send(batch));
    Ok(reader.sums.unwrap_or_default())
}

type Part<'a> = Result<(&'a dyn House, Vec<Line>), MoveError>;

/// A batch by the stores that its lines belong to.
fn parts(houses: &Houses, batch: Vec<Line>) -> Vec<Part<'_>> {
    let mut parts: Vec<(usize, Vec<Line>)> = Vec::new();
    for line in batch {
        let owner = houses.0.iter().position(|house| house.kinds().iter().any(|(kind, _)| *kind == line.kind));
        let Some(owner) = owner else { return vec![Err(line.wrong("its kind is not known"))] };
        match parts.last_mut() {
            Some((last, lines)) if *last == owner => lines.push(line),
            _ => parts.push((owner, vec![line])),
        }
    }
    parts.into_iter().map(|(owner, lines)| Ok((&*houses.0[owner], lines))).collect()
}

/// Where an export goes. A file gets its name when it is whole, and is its owner's alone: it holds password hashes and
/// e-mail addresses.
struct Target {
    output: Box<dyn Write + Send>,
    /// The file under its first name and under its last.
    names: Option<(PathBuf, PathBuf)>,
}

impl Target {
    fn open(to: &Path) -> io::Result<Self> {
        if is_standard(to) {
            return Ok(Self { output: Box::new(BufWriter::new(io::stdout())), names: None });
        }
        if to.exists() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there already", to.display())));
        }
        let mut part = to.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&part)?;
        // One that was left by an export that was stopped may have another mode.
        fs::set_permissions(&part, fs::Permissions::from_mode(0o600))?;
        Ok(Self { output: Box::new(BufWriter::with_capacity(1 << 20, file)), names: Some((part, to.to_owned())) })
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())
    }

    fn finish(mut self) -> io::Result<()> {
        self.output.flush()?;
        let Some((part, to)) = self.names else { return Ok(()) };
        File::open(&part)?.sync_all()?;
        fs::rename(part, to)
    }
}

/// How many records have been dealt with, on a terminal alone.
fn bar(what: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {human_pos} of {human_len} {msg}, {rate}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} records {msg}, {rate}, {elapsed}"),
    };
    let style = ProgressStyle::with_template(template).expect("invariant: both templates are good");
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        // What cannot be shown is no reason to stop.
        write!(out, "{:.0}/s", state.per_sec()).unwrap_or_default();
    };
    bar.with_style(style.with_key("rate", rate)).with_message(what)
}

/// To the person who waits; standard output may be the file.
#[expect(clippy::print_stderr, reason = "it is what the command is for")]
fn say(text: &str) {
    eprintln!("{text}");
}
