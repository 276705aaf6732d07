//! The loop with runs that are none: real time, but ticks a second apart.

use tokio::sync::mpsc;

use super::*;

use crate::interrupt::HangUp;
use crate::telemetry::metrics::MetricsStore;

/// A loop whose runs are `work`; what is launched and missed comes out of the channel.
fn scheduler(
    delays: Vec<Duration>,
    work: impl Fn(Due) -> JoinHandle<Ended> + Send + 'static,
) -> (Scheduler, mpsc::UnboundedReceiver<&'static str>) {
    let schedule = Schedule::parse("* * * * * *", chrono_tz::Tz::UTC).expect("a schedule");
    let heartbeat = Arc::new(Heartbeat::new(schedule.clone(), Arc::new(MetricsStore::open(Some("s3://b/"), None))));
    let (sender, receiver) = mpsc::unbounded_channel();
    let missed = sender.clone();
    let launch: Launch = Box::new(move |due| {
        sender.send(due.reason()).expect("somebody listens");
        work(due)
    });
    let missed: Missed = Box::new(move |_| missed.send("missed").expect("somebody listens"));
    (Scheduler::new(RunQueue::new(schedule, delays, Utc::now()), heartbeat, launch, missed), receiver)
}

async fn events(receiver: &mut mpsc::UnboundedReceiver<&'static str>, count: usize) -> Vec<&'static str> {
    let mut events = Vec::new();
    while events.len() < count {
        events.push(receiver.recv().await.expect("an event"));
    }
    events
}

async fn until<T>(scheduler: Scheduler, opening: Opening, done: impl Future<Output = T>) -> T {
    let interrupts = Interrupts::listen(HangUp::LeftAlone).expect("signals");
    tokio::select! {
        _ = scheduler.run(opening, &interrupts) => panic!("the loop ended by itself"),
        done = done => done,
        () = tokio::time::sleep(Duration::from_mins(1)) => panic!("it takes too long"),
    }
}

fn look(answer: bool) -> Opening {
    Opening::Look(tokio::spawn(async move { answer }))
}

#[tokio::test]
async fn a_panic_in_a_run_does_not_end_the_loop() {
    let work = |_| tokio::spawn(async { panic!("a bug in a run") });
    let (scheduler, mut receiver) = scheduler(Vec::new(), work);
    let events = until(scheduler, Opening::Start, events(&mut receiver, 3)).await;
    assert_eq!(events, ["start", "schedule", "schedule"]);
}

#[tokio::test]
async fn a_failure_is_retried_before_the_next_tick_and_a_success_is_not() {
    let work =
        |due| tokio::spawn(async move { if matches!(due, Due::Retry { .. }) { Ended::Well } else { Ended::Badly } });
    let delays = vec![Duration::from_millis(1); 3];
    let (mut scheduler, mut receiver) = scheduler(delays.clone(), work);
    // No tick comes between a failure and its retry, even where the machine pauses.
    let schedule = Schedule::parse("*/5 * * * * *", chrono_tz::Tz::UTC).expect("a schedule");
    scheduler.run_queue = RunQueue::new(schedule, delays, Utc::now());
    let events = until(scheduler, look(false), events(&mut receiver, 4)).await;
    assert_eq!(events, ["schedule", "retry", "schedule", "retry"]);
}

#[tokio::test]
async fn a_second_tick_that_is_skipped_in_a_row_is_reported() {
    let work = |_| tokio::spawn(std::future::pending());
    let (scheduler, mut receiver) = scheduler(Vec::new(), work);
    let heartbeat = Arc::clone(&scheduler.heartbeat);
    let events = until(scheduler, Opening::Start, events(&mut receiver, 3)).await;
    assert_eq!(events, ["start", "missed", "missed"]);
    let metrics = heartbeat.metrics().render();
    // Each that was told, further ones included, and the first.
    let further = std::iter::from_fn(|| receiver.try_recv().ok()).count();
    assert!(metrics.contains(&format!("result=\"skipped\"}} {}\n", 3 + further)), "{metrics}");
    assert!(metrics.contains("pg_s3_backup_run_in_progress{destination=\"s3://b/\"} 1"), "{metrics}");
}

#[tokio::test]
async fn skipped_ticks_are_no_failure_while_a_backup_is_fresh() {
    let work = |_| tokio::spawn(std::future::pending());
    let (scheduler, mut receiver) = scheduler(Vec::new(), work);
    let heartbeat = Arc::clone(&scheduler.heartbeat);
    // Fresh for longer than the test takes: ahead, but by less than clocks differ.
    heartbeat.metrics().looked(1, 1, Some(Utc::now() + TimeDelta::minutes(30)));
    let four_skipped = async {
        while !heartbeat.metrics().render().contains("result=\"skipped\"} 4\n") {
            tokio::time::sleep(STEP / 10).await;
        }
    };
    until(scheduler, Opening::Start, four_skipped).await;
    assert_eq!((receiver.try_recv(), receiver.try_recv().is_err()), (Ok("start"), true), "no tick was missed");
}

#[tokio::test]
async fn a_look_that_finds_old_backups_is_followed_by_one_at_once() {
    let work = |_| tokio::spawn(async { Ended::Well });
    let (scheduler, mut receiver) = scheduler(Vec::new(), work);
    // Ticks wait for the look, and then go first: the look takes a second here.
    let slow = Opening::Look(tokio::spawn(async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        true
    }));
    assert_eq!(until(scheduler, slow, events(&mut receiver, 1)).await, ["schedule"]);
    let schedule = Schedule::parse("@yearly", chrono_tz::Tz::UTC).expect("a schedule");
    let (mut scheduler, mut receiver) = self::scheduler(Vec::new(), |_| tokio::spawn(async { Ended::Well }));
    scheduler.run_queue = RunQueue::new(schedule, Vec::new(), Utc::now());
    assert_eq!(until(scheduler, look(true), events(&mut receiver, 1)).await, ["catch-up"]);
}
