//! Follows all changes, from router to router, by token alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use platbook_chaos_tests::changes::check::Judgement;
use platbook_chaos_tests::changes::consume::Events;
use platbook_chaos_tests::changes::journal::Entry;
use tokio::time::{sleep, timeout};

use super::Phase;
use crate::board::{Board, Event};
use crate::http::Http;
use crate::machines::router_address;
use crate::plan::Plan;

/// A stream that says nothing for so long is asked for anew; it has a sign of life every second.
const SILENCE_MAX: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(200);

/// What the follower was told: the token behind each event, and the event.
#[derive(Default)]
pub(crate) struct Journal {
    entries: RefCell<Vec<(String, String)>>,
    token: RefCell<Option<String>>,
}

impl Journal {
    /// All listings that follow from it, by ZIP and id; what contradicts itself is a violation.
    pub(crate) fn judge(&self, board: &Board) -> BTreeMap<(String, String), String> {
        let entries = self.entries.borrow();
        let judgement = Judgement::of(entries.iter().map(|(token, event)| Entry { token, event }));
        for what in &judgement.violations {
            board.violated(format!("change stream: {what}"));
        }
        judgement
            .listings
            .into_iter()
            .map(|(key, listing)| (key, listing.get().to_string()))
            .collect()
    }

    /// What was told so far counts no more: the state is told again.
    fn begin_again(&self, board: &Board) {
        self.judge(board);
        board.reached("changes told anew: the log was trimmed");
        self.entries.borrow_mut().clear();
        *self.token.borrow_mut() = None;
    }
}

/// Follows until the run is over.
pub(crate) async fn run(journal: Rc<Journal>, phase: Phase, plan: Plan, board: Board) {
    let mut turn = plan.seed;
    while !phase.is_over() {
        turn += 1;
        let router = router_address(&format!("router{}", 1 + turn % plan.routers));
        if let Err(status) = follow(&journal, &phase, &router, &board).await
            && status == 410
        {
            journal.begin_again(&board);
        }
        board.reached("follower connected again");
        sleep(PAUSE).await;
    }
}

/// One connection; an error is a refusal's status, 0 where there was no answer.
async fn follow(journal: &Journal, phase: &Phase, router: &str, board: &Board) -> Result<(), u16> {
    let token = journal.token.borrow().clone();
    let mut headers = vec![("accept", "text/event-stream")];
    if let Some(token) = &token {
        headers.push(("last-event-id", token));
    }
    let mut http = Http::to(router.to_string());
    let path = "/v1/changes?from=beginning&heartbeat=1";
    let opened = http.open(Method::GET, path, &headers, bytes::Bytes::new());
    let response = timeout(SILENCE_MAX, opened).await.map_err(|_| 0_u16)?.map_err(|_| 0_u16)?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(status);
    }
    let (mut body, mut events) = (response.into_body(), Events::default());
    while !phase.is_over() {
        let Ok(Some(Ok(frame))) = timeout(SILENCE_MAX, body.frame()).await else { return Ok(()) };
        let Ok(chunk) = frame.into_data() else { continue };
        for event in events.push(&chunk) {
            let (client, what) =
                ("follower".to_string(), format!("{} {} {}", event.name, event.id, event.data));
            board.take(&Event::Told { client, what });
            match event.name.as_str() {
                "heartbeat" | "resolved" => {}
                "gone" => return Ok(()),
                _ => journal.entries.borrow_mut().push((event.id.clone(), event.data)),
            }
            *journal.token.borrow_mut() = Some(event.id);
        }
    }
    Ok(())
}
