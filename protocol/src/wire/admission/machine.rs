//! The two ends of admission, as machines: what to send, and whom to let in.
//!
//! ```text
//!  dialer:   Challenged? --Challenge--> Answered --Welcome--> done
//!  listener: Waiting --Certificate--> done
//!            Waiting --Ticket--> Granting --Granted--> done
//! ```

use super::{
    Certificate, FromDialer, FromListener, MeshId, Refusal, Secret, TicketId, Verifier,
    listener_proof,
};
use crate::limits;
use crate::peer::PeerId;
use crate::time::Time;

/// What a node knows that decides about others.
pub trait Judge: Verifier {
    /// Was this peer revoked?
    fn is_revoked(&self, peer: PeerId) -> bool;

    /// The secret of a ticket that this node issued, over or not.
    fn secret(&self, ticket: TicketId) -> Option<Secret>;
}

/// One connection.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The mesh of this node.
    pub mesh: MeshId,
    /// This node.
    pub own: PeerId,
    /// The other end; the connection has proved that it is.
    pub other: PeerId,
    /// When it began, in seconds since 1970.
    pub now_s: u64,
    /// How long it may take until somebody is admitted, in microseconds.
    pub patience_us: u64,
}

/// How a dialer means to get in.
#[derive(Clone, Debug)]
pub enum Pass {
    /// As a member.
    Certificate(Box<Certificate>),
    /// As a newcomer.
    Ticket {
        /// The ticket's.
        secret: Secret,
        /// What it would be called.
        name: String,
        /// Will it be gone soon, and not come back?
        is_ephemeral: bool,
    },
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// One whole message came.
    Message(&'a [u8]),
    /// The answer to [`Output::Redeem`].
    Granted(Result<Box<Certificate>, Refusal>),
    /// The other end closed.
    Closed,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send this message.
    Send(Vec<u8>),
    /// Count a use of this ticket, for good, and sign a certificate for the other end; then tell
    /// by [`Input::Granted`]. A peer that had one by the same ticket gets it again and uses nothing.
    Redeem {
        /// Which.
        ticket: TicketId,
        /// What the newcomer would be called.
        name: String,
        /// Will it be gone soon? Then its certificate need not hold for long.
        is_ephemeral: bool,
    },
    /// Let it in, when all is sent.
    Admitted {
        /// What the other end is.
        certificate: Box<Certificate>,
        /// What this node has become, if it came with a ticket.
        granted: Option<Box<Certificate>>,
    },
    /// Close, when all is sent.
    Refused(Refusal),
}

enum State {
    /// A dialer before the challenge.
    Challenged(Pass),
    /// A dialer that has shown its pass; true: a ticket.
    Answered(bool),
    /// A listener before the pass.
    Waiting { nonce: [u8; 32], own: Box<Certificate> },
    /// A listener while the certificate is made.
    Granting { own: Box<Certificate> },
    /// Admitted or refused.
    Done,
}

/// One end of one connection.
pub struct Admission {
    session: Session,
    state: State,
    deadline: Time,
}

impl Admission {
    /// The end that dialled.
    pub fn dial(now: Time, session: Session, pass: Pass) -> Self {
        Self { session, state: State::Challenged(pass), deadline: now + session.patience_us }
    }

    /// The end that listened. `nonce` must be random and used once.
    pub fn listen(
        now: Time,
        session: Session,
        own: Box<Certificate>,
        nonce: [u8; 32],
        out: &mut Vec<Output>,
    ) -> Self {
        let proof = listener_proof(session.mesh, &nonce, session.other, session.own).into();
        let deadline = now + session.patience_us;
        let mut machine = Self { session, state: State::Waiting { nonce, own }, deadline };
        machine.send(FromListener::Challenge { nonce, proof }.encode(), out);
        machine
    }

    /// When [`Admission::handle_timeout`] is due; none when all is decided.
    pub fn next_deadline(&self) -> Option<Time> {
        (!self.is_done()).then_some(self.deadline)
    }

    /// Gives up on who is silent.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Vec<Output>) {
        if !self.is_done() && now >= self.deadline {
            self.refuse(Refusal::TimedOut, out);
        }
    }

    /// Is the other end admitted or refused?
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes what happened and says what to do.
    pub fn handle(
        &mut self,
        now: Time,
        input: Input<'_>,
        judge: &dyn Judge,
        out: &mut Vec<Output>,
    ) {
        self.handle_timeout(now, out);
        let state = std::mem::replace(&mut self.state, State::Done);
        let next = match (state, input) {
            // Late news.
            (State::Done, _) => return,
            (_, Input::Closed) => Err(Refusal::Closed),
            (_, Input::Message(bytes)) if bytes.len() as u64 > limits::ADMISSION_BYTES => {
                Err(Refusal::Oversized)
            }
            (State::Challenged(pass), Input::Message(bytes)) => self.challenged(bytes, pass, out),
            (State::Answered(by_ticket), Input::Message(bytes)) => {
                self.answered(bytes, by_ticket, judge, out)
            }
            (State::Waiting { nonce, own }, Input::Message(bytes)) => {
                self.shown(bytes, &nonce, own, judge, out)
            }
            (State::Granting { own }, Input::Granted(granted)) => {
                let granted = granted.inspect_err(|refusal| tell(*refusal, out));
                granted.and_then(|granted| self.welcome(granted.clone(), own, Some(granted), out))
            }
            (_, Input::Message(_) | Input::Granted(_)) => Err(Refusal::OutOfTurn),
        };
        match next {
            Ok(state) => self.state = state,
            Err(refusal) => self.refuse(refusal, out),
        }
    }

    /// The listener may know the mesh: show it the pass.
    fn challenged(
        &mut self,
        bytes: &[u8],
        pass: Pass,
        out: &mut Vec<Output>,
    ) -> Result<State, Refusal> {
        let Session { mesh, own, other, .. } = self.session;
        let (nonce, proof) = match listener_message(bytes)? {
            FromListener::Challenge { nonce, proof } => (nonce, proof),
            _ => return Err(Refusal::OutOfTurn),
        };
        // `blake3::Hash` compares in constant time.
        if listener_proof(mesh, &nonce, own, other) != proof {
            return Err(Refusal::WrongMesh);
        }
        let by_ticket = matches!(pass, Pass::Ticket { .. });
        let message = match pass {
            Pass::Certificate(certificate) => FromDialer::Certificate(certificate),
            Pass::Ticket { secret, name, is_ephemeral } => {
                let proof = secret.prove(mesh, &nonce, own, other);
                FromDialer::Ticket { id: secret.id(), proof, name, is_ephemeral }
            }
        };
        let message = message.encode().map_err(|_| Refusal::Malformed)?;
        out.push(Output::Send(message));
        Ok(State::Answered(by_ticket))
    }

    /// The listener has decided; now it is the dialer's turn.
    fn answered(
        &mut self,
        bytes: &[u8],
        by_ticket: bool,
        judge: &dyn Judge,
        out: &mut Vec<Output>,
    ) -> Result<State, Refusal> {
        let Session { mesh, own, now_s, .. } = self.session;
        let (certificate, granted) = match listener_message(bytes)? {
            FromListener::Welcome { certificate, granted } => (certificate, granted),
            FromListener::Refused(refusal) => return Err(refusal),
            FromListener::Challenge { .. } => return Err(Refusal::OutOfTurn),
        };
        if granted.is_some() != by_ticket {
            return Err(Refusal::OutOfTurn);
        }
        self.judge(&certificate, judge)?;
        if let Some(granted) = &granted {
            granted.verify(mesh, own, now_s, judge)?;
        }
        out.push(Output::Admitted { certificate, granted });
        Ok(State::Done)
    }

    /// The dialer has shown its pass.
    fn shown(
        &mut self,
        bytes: &[u8],
        nonce: &[u8; 32],
        own: Box<Certificate>,
        judge: &dyn Judge,
        out: &mut Vec<Output>,
    ) -> Result<State, Refusal> {
        let message = FromDialer::decode(bytes).map_err(|_| Refusal::Malformed)?;
        match message {
            FromDialer::Certificate(certificate) => {
                let judged = self.judge(&certificate, judge);
                judged.inspect_err(|refusal| tell(*refusal, out))?;
                self.welcome(certificate, own, None, out)
            }
            FromDialer::Ticket { id, proof, name, is_ephemeral } => {
                let Session { mesh, own: listener, other: dialer, .. } = self.session;
                let secret = judge.secret(id).ok_or(Refusal::UnknownTicket)?;
                let expected = secret.prove(mesh, nonce, dialer, listener);
                if blake3::Hash::from(expected) != proof {
                    return Err(Refusal::UnknownTicket);
                }
                if judge.is_revoked(dialer) {
                    tell(Refusal::Revoked, out);
                    return Err(Refusal::Revoked);
                }
                out.push(Output::Redeem { ticket: id, name, is_ephemeral });
                Ok(State::Granting { own })
            }
        }
    }

    fn judge(&self, certificate: &Certificate, judge: &dyn Judge) -> Result<(), Refusal> {
        let Session { mesh, other, now_s, .. } = self.session;
        certificate.verify(mesh, other, now_s, judge)?;
        let admin = certificate.admin.as_ref().map(|admin| admin.grant.peer);
        match judge.is_revoked(other) || admin.is_some_and(|admin| judge.is_revoked(admin)) {
            true => Err(Refusal::Revoked),
            false => Ok(()),
        }
    }

    fn welcome(
        &mut self,
        certificate: Box<Certificate>,
        own: Box<Certificate>,
        granted: Option<Box<Certificate>>,
        out: &mut Vec<Output>,
    ) -> Result<State, Refusal> {
        let message = FromListener::Welcome { certificate: own, granted };
        out.push(Output::Send(message.encode().map_err(|_| Refusal::Malformed)?));
        out.push(Output::Admitted { certificate, granted: None });
        Ok(State::Done)
    }

    fn refuse(&mut self, refusal: Refusal, out: &mut Vec<Output>) {
        self.state = State::Done;
        out.push(Output::Refused(refusal));
    }

    fn send(&mut self, message: Result<Vec<u8>, crate::codec::CodecError>, out: &mut Vec<Output>) {
        match message {
            Ok(message) => out.push(Output::Send(message)),
            Err(_) => self.refuse(Refusal::Malformed, out),
        }
    }
}

fn listener_message(bytes: &[u8]) -> Result<FromListener, Refusal> {
    FromListener::decode(bytes).map_err(|_| Refusal::Malformed)
}

fn tell(refusal: Refusal, out: &mut Vec<Output>) {
    if refusal.is_told()
        && let Ok(message) = FromListener::Refused(refusal).encode()
    {
        out.push(Output::Send(message));
    }
}
