use crate::{Plan, Promise, Run, run};

/// Looks for the smallest plan under which the seed still breaks the same promise: fewer nights,
/// fewer uploads, fewer kinds of faults.
pub fn shrink(broken: &Run) -> Run {
    let mut smallest = broken.clone();
    let Some(promise) = broken.violations.first().map(|violation| violation.promise) else {
        return smallest;
    };
    while let Some(smaller) = smaller(&smallest, promise) {
        smallest = smaller;
    }
    smallest
}

fn smaller(run_before: &Run, promise: Promise) -> Option<Run> {
    let plan = &run_before.plan;
    let fewer_uploads = [plan.uploads / 4, plan.uploads / 2, plan.uploads.saturating_sub(1)];
    let uploads = fewer_uploads.into_iter().filter(|uploads| (1..plan.uploads).contains(uploads));
    let uploads = uploads.map(|uploads| Plan { uploads, ..plan.clone() });
    let shorter = plan.nights.saturating_sub(plan.busy_nights() / 2);
    let nights =
        (shorter > 0 && shorter < plan.nights).then(|| Plan { nights: shorter, ..plan.clone() });
    let faults = plan.faults.iter().map(|fault| plan.without(*fault));
    let mut plans = nights.into_iter().chain(uploads).chain(faults);
    plans.find_map(|plan| {
        // Each change moves what is random, so a few seeds are tried.
        (0..3).map(|n| run(run_before.seed + n, &plan)).find(|run| breaks(run, promise))
    })
}

fn breaks(run: &Run, promise: Promise) -> bool {
    run.violations.first().is_some_and(|violation| violation.promise == promise)
}
