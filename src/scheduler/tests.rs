//! The loop with fake runs, in real time with a tick each second.

use tokio::sync::mpsc;

use super::*;

use crate::interrupt::HangUp;
use crate::telemetry::metrics::MetricsStore;

/// A loop that runs `work`; the channel receives what it launches and reports as missed.
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
    let interrupts = Interrupts::listen(HangUp::Unhandled).expect("signals");
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
async fn loop_survives_panic_of_run() {
    let work = |_| tokio::spawn(async { panic!("a bug in a run") });
    let (scheduler, mut receiver) = scheduler(Vec::new(), work);
    let events = until(scheduler, Opening::Start, events(&mut receiver, 3)).await;
    assert_eq!(events, ["start", "schedule", "schedule"]);
}

#[tokio::test]
async fn retries_failure_but_not_success() {
    let work =
        |due| tokio::spawn(async move { if matches!(due, Due::Retry { .. }) { Ended::Well } else { Ended::Badly } });
    let delays = vec![Duration::from_millis(1); 3];
    let (mut scheduler, mut receiver) = scheduler(delays.clone(), work);
    // Five seconds between ticks: none comes between a failure and its retry, even if the machine pauses.
    let schedule = Schedule::parse("*/5 * * * * *", chrono_tz::Tz::UTC).expect("a schedule");
    scheduler.run_queue = RunQueue::new(schedule, delays, Utc::now());
    let events = until(scheduler, look(false), events(&mut receiver, 4)).await;
    assert_eq!(events, ["schedule", "retry", "schedule", "retry"]);
}

#[tokio::test]
async fn reports_second_skipped_tick_in_a_row() {
    let work = |_| tokio::spawn(std::future::pending());
    let (scheduler, mut receiver) = scheduler(Vec::new(), work);
    let heartbeat = Arc::clone(&scheduler.heartbeat);
    let events = until(scheduler, Opening::Start, events(&mut receiver, 3)).await;
    assert_eq!(events, ["start", "missed", "missed"]);
    let metrics = heartbeat.metrics().render();
    // All reported ticks, and the first, which is not reported.
    let further = std::iter::from_fn(|| receiver.try_recv().ok()).count();
    assert!(metrics.contains(&format!("result=\"skipped\"}} {}\n", 3 + further)), "{metrics}");
    assert!(metrics.contains("pg_s3_backup_run_in_progress{destination=\"s3://b/\"} 1"), "{metrics}");
}

#[tokio::test]
async fn skipped_tick_is_no_failure_while_backup_is_fresh() {
    let work = |_| tokio::spawn(std::future::pending());
    let (scheduler, mut receiver) = scheduler(Vec::new(), work);
    let heartbeat = Arc::clone(&scheduler.heartbeat);
    // Fresh for the duration of the test: in the future, within the tolerance for clocks.
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
async fn catches_up_if_newest_backup_is_old() {
    let work = |_| tokio::spawn(async { Ended::Well });
    let (scheduler, mut receiver) = scheduler(Vec::new(), work);
    // Ticks wait for the look and take precedence over catching up.
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
