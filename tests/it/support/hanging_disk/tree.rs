//! Files and directories in memory, by node. Nothing is ever freed: a disk lives as long as its test.

use super::protocol::{
    Call, EEXIST, EIO, ENOENT, ENOSYS, ENOTEMPTY, Request, attributes, dirent, entry, init, numbers, statfs,
};

const ROOT: u64 = 1;
const DIRECTORY: u32 = 0o040_700;
const FILE: u32 = 0o100_600;
/// `FATTR_SIZE`
const SET_SIZE: u32 = 1 << 3;
/// 1 GiB in blocks.
const BLOCKS: u64 = 1 << 18;

/// All nodes; the root is the first.
pub struct Tree(Vec<Node>);

struct Node {
    name: String,
    /// Where it is; `None` once it was deleted.
    parent: Option<u64>,
    is_dir: bool,
    bytes: Vec<u8>,
}

impl Tree {
    /// With nothing in it.
    pub fn new() -> Self {
        Self(vec![Node { name: String::new(), parent: None, is_dir: true, bytes: Vec::new() }])
    }

    /// A node's own name.
    pub fn name(&self, node: u64) -> &str {
        self.node(node).map_or("", |node| &node.name)
    }

    /// The answer to a request, or an error's number.
    pub fn answer(&mut self, request: &Request<'_>) -> Result<Vec<u8>, i32> {
        let node = request.node;
        match request.call.ok_or(ENOSYS)? {
            Call::Init => Ok(init()),
            Call::StatFs => Ok(statfs(BLOCKS)),
            Call::GetAttr => self.status(node),
            Call::Lookup => self.entry(self.child(node, request)?),
            Call::Mkdir | Call::Create => self.make(request),
            Call::SetAttr => self.set(request),
            Call::Open | Call::OpenDir => Ok(vec![0; 16]),
            Call::Read => self.read(request),
            Call::ReadDir => Ok(self.list(request)),
            Call::Write => self.write(request),
            Call::Unlink | Call::Rmdir => self.remove(self.child(node, request)?),
            Call::Rename | Call::Rename2 => self.rename(request),
            Call::Release | Call::ReleaseDir | Call::Fsync | Call::FsyncDir | Call::Flush | Call::Destroy => {
                Ok(Vec::new())
            }
        }
    }

    fn node(&self, node: u64) -> Option<&Node> {
        self.0.get(usize::try_from(node.checked_sub(ROOT)?).ok()?)
    }

    fn node_mut(&mut self, node: u64) -> Result<&mut Node, i32> {
        let index = node.checked_sub(ROOT).and_then(|index| usize::try_from(index).ok()).ok_or(ENOENT)?;
        self.0.get_mut(index).ok_or(ENOENT)
    }

    fn children(&self, parent: u64) -> impl Iterator<Item = (u64, &Node)> {
        (ROOT..).zip(&self.0).filter(move |(_, node)| node.parent == Some(parent))
    }

    fn child(&self, parent: u64, request: &Request<'_>) -> Result<u64, i32> {
        self.find(parent, request.name().ok_or(EIO)?).ok_or(ENOENT)
    }

    fn find(&self, parent: u64, name: &str) -> Option<u64> {
        self.children(parent).find(|(_, node)| node.name == name).map(|(number, _)| number)
    }

    fn attributes(&self, number: u64) -> Result<Vec<u8>, i32> {
        let node = self.node(number).ok_or(ENOENT)?;
        Ok(attributes(number, node.bytes.len() as u64, if node.is_dir { DIRECTORY } else { FILE }))
    }

    fn entry(&self, number: u64) -> Result<Vec<u8>, i32> {
        Ok(entry(number, &self.attributes(number)?))
    }

    fn status(&self, number: u64) -> Result<Vec<u8>, i32> {
        Ok([vec![0; 16], self.attributes(number)?].concat())
    }

    fn make(&mut self, request: &Request<'_>) -> Result<Vec<u8>, i32> {
        if self.child(request.node, request).is_ok() {
            return Err(EEXIST);
        }
        let (name, is_dir) = (request.name().ok_or(EIO)?.to_owned(), request.call == Some(Call::Mkdir));
        self.0.push(Node { name, parent: Some(request.node), is_dir, bytes: Vec::new() });
        let opened = if is_dir { 0 } else { 16 };
        Ok([self.entry(self.0.len() as u64)?, vec![0; opened]].concat())
    }

    fn set(&mut self, request: &Request<'_>) -> Result<Vec<u8>, i32> {
        if request.u32(0) & SET_SIZE != 0 {
            let size = usize::try_from(request.u64(16)).map_err(|_| EIO)?;
            self.node_mut(request.node)?.bytes.resize(size, 0);
        }
        self.status(request.node)
    }

    fn read(&self, request: &Request<'_>) -> Result<Vec<u8>, i32> {
        let bytes = &self.node(request.node).ok_or(ENOENT)?.bytes;
        let from = usize::try_from(request.u64(8)).map_or(bytes.len(), |from| from.min(bytes.len()));
        let end = (from + request.u32(16) as usize).min(bytes.len());
        Ok(bytes[from..end].to_vec())
    }

    fn write(&mut self, request: &Request<'_>) -> Result<Vec<u8>, i32> {
        let (from, count) = (usize::try_from(request.u64(8)).map_err(|_| EIO)?, request.u32(16));
        let data = request.rest(40).get(..count as usize).ok_or(EIO)?;
        let bytes = &mut self.node_mut(request.node)?.bytes;
        bytes.resize(bytes.len().max(from + data.len()), 0);
        bytes[from..from + data.len()].copy_from_slice(data);
        Ok(numbers(&[count, 0]))
    }

    /// What fits into the kernel's buffer, from the entry on that it asks for.
    fn list(&self, request: &Request<'_>) -> Vec<u8> {
        let (from, capacity) = (request.u64(8), request.u32(16) as usize);
        let mut body = Vec::new();
        for (number, node) in self.children(request.node).filter(|(number, _)| *number > from) {
            let one = dirent(number, number, &node.name, node.is_dir);
            if body.len() + one.len() > capacity {
                break;
            }
            body.extend(one);
        }
        body
    }

    fn remove(&mut self, number: u64) -> Result<Vec<u8>, i32> {
        if self.children(number).next().is_some() {
            return Err(ENOTEMPTY);
        }
        self.node_mut(number)?.parent = None;
        Ok(Vec::new())
    }

    fn rename(&mut self, request: &Request<'_>) -> Result<Vec<u8>, i32> {
        let mut names = request.names();
        let (old, new) = names.next().zip(names.next()).ok_or(EIO)?;
        let (number, to) = (self.find(request.node, old).ok_or(ENOENT)?, request.u64(0));
        if let Some(replaced) = self.find(to, new) {
            self.remove(replaced)?;
        }
        let node = self.node_mut(number)?;
        (node.name, node.parent) = (new.to_owned(), Some(to));
        Ok(Vec::new())
    }
}
